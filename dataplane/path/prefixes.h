// Prefixes: one IPv6 prefix inside, another outside, by rules of NatKind::nptv6 (net/nptv6.h, RFC 6296).
//
// Without state: what comes in by the rule's way out for an outer address has the inner one before flows are looked at or rules asked,
// and what leaves by it from an inner address has the outer one, behind everything else. So flows, rules and filters know inner
// addresses alone, and what no flow is known of is translated too. ICMP errors have the packet that they quote translated. What one
// insider sends to another's outer address comes from its own outer one (RFC 6296, hairpinning). Who is neither inside nor by the way
// out knows insiders by their inner addresses.
//
// No checksum changes. What cannot be translated is discarded, and its sender told.
// Costs: nothing without such rules; else a comparison a rule, and a search for what is inside one.
// Thread rules: on the thread of the context, an RCU reader.
#pragma once

#include "dataplane/path/context.h"

namespace sallyport {

struct Policy;

void translate_prefixes_in(Context& context);
void translate_prefixes_out(Context& context);

// From one insider to another, by the outer address: both have theirs, and no other rule is asked for the source.
bool is_between_insiders(const Policy& policy, const Run& run);

}  // namespace sallyport
