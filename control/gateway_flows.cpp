// What a Gateway does with flows: lists them, forgets them, and ends those that have been quiet for too long.
#include "control/flow_report.h"
#include "control/gateway.h"
#include "control/limits.h"

namespace sallyport {

std::expected<FlowFilter, ControlFailure> Gateway::flow_filter(
    const std::vector<std::string>& words, const Policy& policy) const {
  TunnelNumbers numbers;
  for (const auto& [name, its] : tunnels_) {
    numbers[name] = its->number();
  }
  const auto query = read_flow_query(words);
  if (!query) {
    return control_fail(query.error().text);
  }
  auto filter = FlowFilter::make(*query, config_, numbers, names_, policy);
  if (!filter) {
    return control_fail(filter.error().text);
  }
  return std::move(*filter);
}

ControlResult Gateway::show_flows(const std::vector<std::string>& words) const {
  const Policy* policy = engine_.policy();
  if (policy == nullptr || policy->flows == nullptr) {
    return control_fail("no flows are kept: the configuration has neither nat, filter nor flows");
  }
  const auto filter = flow_filter(words, *policy);
  if (!filter) {
    return std::unexpected(filter.error());
  }
  return flows_json(*policy, names_, config_.nats, *filter, now_boottime());
}

ControlResult Gateway::flush_flows(const std::vector<std::string>& words) {
  const Policy* policy = engine_.policy();
  if (policy == nullptr || policy->flows == nullptr) {
    return Json{{"flushed", 0}};
  }
  const auto filter = flow_filter(words, *policy);
  if (!filter) {
    return std::unexpected(filter.error());
  }
  return Json{{"flushed", sallyport::flush_flows(*policy, *filter)}};
}

void Gateway::sweep_flows() {
  engine_.sweep_flows(kFlowsSwept);
  sweep_timer_.expires_after(kFlowSweepInterval);
  sweep_timer_.async_wait([this](boost::system::error_code error) {
    if (!error) {
      sweep_flows();
    }
  });
}

}  // namespace sallyport
