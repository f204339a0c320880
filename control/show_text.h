// ShowText: what `sallyport show`, `explain` and `trace` print, made from the daemon's JSON.
//
// The JSON is the interface (docs/control.md lists its members) and `--json` prints it; the text is for eyes, in the taste
// of `ip rule` and `wg show`, and may change. Columns are as wide as they must be. A member that is not there leaves its place
// empty, so that a daemon of another version can be asked.
//
// Control characters in names are shown as '?': a name must not draw on the terminal. Thread rules: pure functions.
#pragma once

#include <string>
#include <string_view>

#include "control/status.h"

namespace sallyport {

// `what` is a word of `show`; unknown ones come out as indented JSON.
std::string show_text(std::string_view what, const Json& result);

// One line a step: stage, text, (file:line); then the verdict.
std::string explain_text(const Json& explanation);

// One event of a trace: the packet, its verdict and its steps, each on a line.
std::string trace_text(const Json& event);

}  // namespace sallyport
