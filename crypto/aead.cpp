#include "crypto/aead.h"

#include <array>
#include <atomic>

#include "crypto/aead_backends.h"
#include "crypto/cpu.h"
#include "crypto/selftest.h"

namespace sallyport::crypto {

namespace {

constexpr char kPassed[] = "";

#ifdef SALLYPORT_HAVE_MULTIBUFFER
const char* refuse_avx512() {
  return cpu_features().avx512_ifma ? kPassed : "the CPU has no AVX-512 with IFMA";
}

const char* refuse_avx2() {
  return cpu_features().avx2 ? kPassed : "the CPU has no AVX2";
}

void one_by_one_thread_init() {
  if (aead_one_by_one().thread_init != nullptr) {
    aead_one_by_one().thread_init();
  }
}
#endif

#ifdef SALLYPORT_HAVE_IPSECMB
const char* refuse_ipsecmb() {
  return ipsecmb_available() ? kPassed : "the library found no CPU it supports";
}
#endif

// An implementation and the test of the CPU that goes before its self-test: "" or why not.
struct Candidate {
  AeadImplementation implementation;
  const char* (*refuse)();
};

// Best first.
constexpr Candidate kCandidates[] = {
#ifdef SALLYPORT_HAVE_MULTIBUFFER
    {{"avx512", avx512_seal_many, avx512_open_many, avx512_seal_lanes, avx512_open_lanes,
      one_by_one_thread_init, false, ""},
     refuse_avx512},
    {{"avx2", avx2_seal_many, avx2_open_many, avx2_seal_lanes, avx2_open_lanes,
      one_by_one_thread_init, false, ""},
     refuse_avx2},
#endif
#ifdef SALLYPORT_HAVE_IPSECMB
    {{"ipsecmb", ipsecmb_seal_many, ipsecmb_open_many, nullptr, nullptr, ipsecmb_thread_init, false,
      ""},
     refuse_ipsecmb},
#endif
    {{"sodium", sodium_seal_many, sodium_open_many, nullptr, nullptr, nullptr, false, ""}, nullptr},
};

constexpr size_t kCandidateCount = std::size(kCandidates);

AeadImplementation test_one(const Candidate& candidate) {
  AeadImplementation tested = candidate.implementation;
  tested.reason = candidate.refuse != nullptr ? candidate.refuse() : kPassed;
  if (*tested.reason == '\0') {
    tested.reason = self_test(tested);
  }
  tested.usable = *tested.reason == '\0';
  return tested;
}

std::array<AeadImplementation, kCandidateCount> test_all() {
  std::array<AeadImplementation, kCandidateCount> tested;
  for (size_t i = 0; i < kCandidateCount; ++i) {
    tested[i] = test_one(kCandidates[i]);
  }
  return tested;
}

std::atomic<const AeadImplementation*> current{&kCandidates[kCandidateCount - 1].implementation};

const AeadImplementation& in_use() {
  return *current.load(std::memory_order_acquire);
}

}  // namespace

const AeadImplementation& aead_one_by_one() {
  static const AeadImplementation chosen = [] {
    for (const Candidate& candidate : kCandidates) {
      if (candidate.implementation.seal_lanes == nullptr) {
        const AeadImplementation tested = test_one(candidate);
        if (tested.usable) {
          return tested;
        }
      }
    }
    return kCandidates[kCandidateCount - 1].implementation;
  }();
  return chosen;
}

std::span<const AeadImplementation> aead_implementations() {
  static const std::array<AeadImplementation, kCandidateCount> tested = test_all();
  return tested;
}

bool select_aead(std::string_view name) {
  for (const AeadImplementation& implementation : aead_implementations()) {
    if (implementation.usable && (name.empty() || name == implementation.name)) {
      current.store(&implementation, std::memory_order_release);
      return true;
    }
  }
  return false;
}

const char* aead_name() {
  return in_use().name;
}

void seal_many(std::span<SealItem> items) {
  in_use().seal_many(items);
}

void open_many(std::span<OpenItem> items) {
  in_use().open_many(items);
}

void aead_thread_init() {
  if (in_use().thread_init != nullptr) {
    in_use().thread_init();
  }
}

}  // namespace sallyport::crypto
