#include "control/process.h"

#include <sys/prctl.h>
#include <sys/resource.h>

#include <cstdlib>
#include <string>

#include "crypto/aead.h"

namespace sallyport {

void hide_memory() {
  const rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // those look at themselves
  prctl(PR_SET_DUMPABLE, 0);
#endif
}

Result<void> choose_aead() {
  const char* wanted = std::getenv("SALLYPORT_AEAD");
  if (crypto::select_aead(wanted == nullptr ? "" : wanted)) {
    return {};
  }
  std::string known;
  for (const auto& each : crypto::aead_implementations()) {
    known += std::string(known.empty() ? "" : ", ") + each.name;
    known += each.usable ? "" : std::string(" (not here: ") + each.reason + ")";
  }
  return fail(std::string("SALLYPORT_AEAD=") + (wanted == nullptr ? "" : wanted) +
              " cannot be used; there are: " + known);
}

TunCalls choose_tun_calls() {
  const char* wanted = std::getenv("SALLYPORT_IO_URING");
  return wanted != nullptr && std::string(wanted) == "0" ? TunCalls::single : TunCalls::batched;
}

}  // namespace sallyport
