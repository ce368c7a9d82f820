// Digests: SHA-256 (OpenSSL) and XXH3 (xxHash), incremental, and their hexadecimal spelling.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace slipway {

enum class DigestAlgorithm { kSha256, kXxh3, kNone };

// "sha256", "xxh3", "none".
[[nodiscard]] std::string_view NameOf(DigestAlgorithm algorithm);
[[nodiscard]] std::optional<DigestAlgorithm> DigestAlgorithmFromName(std::string_view name);

// One digest in the making. Not thread-safe; movable.
class Digest {
 public:
  explicit Digest(DigestAlgorithm algorithm);
  ~Digest();
  Digest(Digest&&) noexcept;
  Digest& operator=(Digest&&) noexcept;

  void Update(std::span<const std::byte> bytes);
  void Update(std::string_view text) { Update(std::as_bytes(std::span(text))); }
  // Lower-case hexadecimal (64 digits for SHA-256, 16 for XXH3, none for kNone). Call once.
  [[nodiscard]] std::string Finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

[[nodiscard]] std::string Sha256(std::string_view text);
[[nodiscard]] std::uint64_t Xxh3(std::span<const std::byte> bytes);

}  // namespace slipway
