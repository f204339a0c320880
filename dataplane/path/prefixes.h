// Prefixes: one IPv6 prefix inside, another outside, by rules of NatKind::nptv6 (net/nptv6.h, RFC 6296).
//
// Without state: what is sent to an outer address has the inner one before flows are looked at or rules asked, whoever sends it,
// and what leaves from an inner address by the rule's way out has the outer one, behind everything else. So flows, rules and filters
// know inner addresses alone, and what no flow is known of is translated too. ICMP errors have the packet that they quote
// translated. What one insider sends to another's outer address comes from its own outer one (RFC 6296, section 3.3).
//
// No checksum changes. What cannot be translated is discarded, and its sender told.
// Costs: nothing without such rules; else a comparison a rule, and a search for what is inside one.
// Thread rules: on the thread of the context, an RCU reader.
#pragma once

#include "dataplane/path/context.h"

namespace sallyport {

void translate_prefixes_in(Context& context);
void translate_prefixes_out(Context& context);

}  // namespace sallyport
