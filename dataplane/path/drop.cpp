#include "dataplane/path/drop.h"

namespace sallyport {
namespace {

constexpr std::array<std::string_view, kDropReasons> kDropNames = {
    "none",
    "outer_malformed",
    "unknown_index",
    "expired_key",
    "mailbox_full",
    "handshake_in_data_queue",
    "bad_mac1",
    "under_load_no_cookie",
    "under_load_rate_limited",
    "initiation_undecryptable",
    "initiation_unknown_peer",
    "initiation_replayed",
    "initiation_too_soon",
    "response_unexpected",
    "response_invalid",
    "cookie_reply_invalid",
    "handshake_no_private_key",
    "handshake_peer_unusable",
    "bad_tag",
    "replayed_counter",
    "inner_malformed",
    "source_not_allowed",
    "ecn_invalid",
    "plain_malformed",
    "no_peer",
    "no_endpoint",
    "peer_unusable",
    "staged_overflow",
    "handshake_gave_up",
    "counter_exhausted",
    "too_big_for_train",
    "nested_too_deep",
    "too_big",
    "routing_loop",
    "policy_drop",
    "policy_reject",
    "exit_down",
    "exit_gone",
    "exit_is_origin",
    "lan_denied",
    "ttl_exceeded",
    "flow_invalid",
    "flow_table_full",
    "flow_share",
    "flow_clash",
    "reverse_path",
    "fragment_early",
    "fragment_refused",
    "filter_drop",
    "filter_reject",
    "nat_no_address",
    "nat_no_port",
    "unsolicited",
    "nat_unable",
    "pool_dry",
    "tunnel_down",
    "outer_send_failed",
    "plain_send_failed",
    "peer_removed",
};
static_assert(!kDropNames.back().empty(), "every DropReason has a name");

}  // namespace

std::string_view drop_name(DropReason reason) {
  return kDropNames[static_cast<size_t>(reason)];
}

}  // namespace sallyport
