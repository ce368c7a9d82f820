#include "common/digest.h"

#include <stdexcept>
#include <utility>

#include <fmt/format.h>
#include <openssl/evp.h>
#include <xxhash.h>
#ifdef __x86_64__
#include <xxh_x86dispatch.h>  // the same functions with the widest vectors of this processor, four times as fast
#endif

namespace slipway {
namespace {

struct EvpDeleter {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};
struct XxhDeleter {
  void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
};

}  // namespace

struct Digest::State {
  std::unique_ptr<EVP_MD_CTX, EvpDeleter> sha256;
  std::unique_ptr<XXH3_state_t, XxhDeleter> xxh3;
};

std::string_view NameOf(DigestAlgorithm algorithm) {
  switch (algorithm) {
    case DigestAlgorithm::kSha256:
      return "sha256";
    case DigestAlgorithm::kXxh3:
      return "xxh3";
    case DigestAlgorithm::kNone:
      return "none";
  }
  return "none";
}

std::optional<DigestAlgorithm> DigestAlgorithmFromName(std::string_view name) {
  for (const auto algorithm : {DigestAlgorithm::kSha256, DigestAlgorithm::kXxh3, DigestAlgorithm::kNone}) {
    if (NameOf(algorithm) == name) {
      return algorithm;
    }
  }
  return std::nullopt;
}

Digest::Digest(DigestAlgorithm algorithm) : state_(std::make_unique<State>()) {
  if (algorithm == DigestAlgorithm::kSha256) {
    state_->sha256.reset(EVP_MD_CTX_new());
    // Fails only where OpenSSL is broken or out of memory: nothing can go on.
    if (!state_->sha256 || EVP_DigestInit_ex(state_->sha256.get(), EVP_sha256(), nullptr) != 1) {
      throw std::runtime_error("OpenSSL cannot make a SHA-256");
    }
  } else if (algorithm == DigestAlgorithm::kXxh3) {
    state_->xxh3.reset(XXH3_createState());
    XXH3_64bits_reset(state_->xxh3.get());
  }
}

Digest::~Digest() = default;
Digest::Digest(Digest&&) noexcept = default;
Digest& Digest::operator=(Digest&&) noexcept = default;

void Digest::Update(std::span<const std::byte> bytes) {
  if (state_->sha256) {
    EVP_DigestUpdate(state_->sha256.get(), bytes.data(), bytes.size());
  } else if (state_->xxh3) {
    XXH3_64bits_update(state_->xxh3.get(), bytes.data(), bytes.size());
  }
}

std::string Digest::Finish() {
  if (state_->xxh3) {
    return fmt::format("{:016x}", XXH3_64bits_digest(state_->xxh3.get()));
  }
  if (!state_->sha256) {
    return {};
  }
  unsigned char bytes[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  EVP_DigestFinal_ex(state_->sha256.get(), bytes, &size);
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) {
    fmt::format_to(std::back_inserter(hex), "{:02x}", bytes[i]);
  }
  return hex;
}

std::string Sha256(std::string_view text) {
  Digest digest(DigestAlgorithm::kSha256);
  digest.Update(text);
  return digest.Finish();
}

std::uint64_t Xxh3(std::span<const std::byte> bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

}  // namespace slipway
