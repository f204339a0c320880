// intel-ipsec-mb 1.3 (x86-64): one packet a job, a manager per thread, jobs unchecked since every
// field is ours.
//
// Chacha20-Poly1305 jobs complete inside the submit call. On open the library writes the plaintext
// before it knows the tag and compares nothing: the tag goes to a local buffer, is compared here in
// constant time, and a packet that fails is zeroed.
#include <intel-ipsec-mb.h>

#include <array>
#include <memory>

#include "crypto/aead_backends.h"
#include "crypto/aead_stash.h"

namespace sallyport::crypto {

namespace {

struct FreeManager {
  void operator()(IMB_MGR* manager) const { free_mb_mgr(manager); }
};

using Manager = std::unique_ptr<IMB_MGR, FreeManager>;

Manager make_manager() {
  Manager manager(alloc_mb_mgr(0));
  if (manager != nullptr) {
    init_mb_mgr_auto(manager.get(), nullptr);
  }
  return manager;
}

IMB_MGR* thread_manager() {
  thread_local const Manager manager = make_manager();
  return manager.get();
}

using Nonce = std::array<uint8_t, 12>;

Nonce nonce_of(uint64_t counter) {
  Nonce nonce{};
  std::memcpy(nonce.data() + 4, &counter, sizeof(counter));  // x86 is little-endian
  return nonce;
}

struct Message {
  const uint8_t* source;
  uint8_t* target;
  size_t len;
  uint8_t* tag;
};

void run_job(IMB_MGR* manager, IMB_CIPHER_DIRECTION direction, const AeadKey& key, uint64_t counter,
             const Message& message) {
  const Nonce nonce = nonce_of(counter);
  IMB_JOB* job = IMB_GET_NEXT_JOB(manager);
  job->cipher_mode = IMB_CIPHER_CHACHA20_POLY1305;
  job->hash_alg = IMB_AUTH_CHACHA20_POLY1305;
  job->cipher_direction = direction;
  job->chain_order = direction == IMB_DIR_ENCRYPT ? IMB_ORDER_CIPHER_HASH : IMB_ORDER_HASH_CIPHER;
  job->enc_keys = key.bytes;
  job->dec_keys = key.bytes;
  job->key_len_in_bytes = sizeof(key.bytes);
  job->iv = nonce.data();
  job->iv_len_in_bytes = nonce.size();
  job->src = message.source;
  job->dst = message.target;
  job->cipher_start_src_offset_in_bytes = 0;
  job->msg_len_to_cipher_in_bytes = message.len;
  job->hash_start_src_offset_in_bytes = 0;
  job->msg_len_to_hash_in_bytes = message.len;
  job->auth_tag_output = message.tag;
  job->auth_tag_output_len_in_bytes = kTagSize;
  job->u.CHACHA20_POLY1305.aad = nullptr;
  job->u.CHACHA20_POLY1305.aad_len_in_bytes = 0;
  IMB_SUBMIT_JOB_NOCHECK(manager);
}

}  // namespace

bool ipsecmb_available() {
  return thread_manager() != nullptr && imb_get_errno(thread_manager()) == 0;
}

void ipsecmb_thread_init() {
  thread_manager();
}

void ipsecmb_seal_many(std::span<SealItem> items) {
  IMB_MGR* manager = thread_manager();
  for (const SealItem& item : items) {
    const Stash stash(item);
    const size_t len = item.plain_len();
    run_job(manager, IMB_DIR_ENCRYPT, *item.key, item.counter,
            {stash.source(), item.out, len, item.out + len});
  }
}

void ipsecmb_open_many(std::span<OpenItem> items) {
  IMB_MGR* manager = thread_manager();
  for (OpenItem& item : items) {
    if (item.len < kTagSize) {
      item.ok = false;
      continue;
    }
    const size_t len = item.len - kTagSize;
    uint8_t tag[kTagSize];
    run_job(manager, IMB_DIR_DECRYPT, *item.key, item.counter, {item.data, item.data, len, tag});
    item.ok = equal_constant_time(tag, item.data + len, kTagSize);
    if (!item.ok) {
      secure_zero(item.data, len);
    }
  }
}

}  // namespace sallyport::crypto
