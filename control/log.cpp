#include "control/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/sinks/syslog_sink.h>
#include <spdlog/spdlog.h>
#include <syslog.h>

#include <memory>
#include <string_view>

namespace sallyport {
namespace {

spdlog::level::level_enum level_of(std::string_view word) {
  if (word == "verbose" || word == "debug") {
    return spdlog::level::debug;
  }
  if (word == "info") {
    return spdlog::level::info;
  }
  return word == "silent" ? spdlog::level::off : spdlog::level::err;
}

}  // namespace

void start_log(const char* level, const std::string& interface, LogTarget target) {
  std::shared_ptr<spdlog::logger> logger;
  if (target == LogTarget::system_log) {
    auto sink = std::make_shared<spdlog::sinks::syslog_sink_st>("sallyport", LOG_PID, LOG_DAEMON,
                                                                /*enable_formatting=*/true);
    sink->set_pattern(interface + ": %v");
    logger = std::make_shared<spdlog::logger>(interface, std::move(sink));
  } else {
    auto sink = std::make_shared<spdlog::sinks::stderr_sink_st>();
    sink->set_pattern("%Y-%m-%d %H:%M:%S.%e %l (" + interface + ") %v");
    logger = std::make_shared<spdlog::logger>(interface, std::move(sink));
  }
  logger->set_level(level_of(level == nullptr ? "" : level));
  logger->flush_on(spdlog::level::debug);
  spdlog::set_default_logger(std::move(logger));
}

}  // namespace sallyport
