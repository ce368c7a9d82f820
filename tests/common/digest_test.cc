// Digests in pieces of any size: XXH3 is its scalar reference's, whatever vectors this processor has.
#include "common/digest.h"

#define XXH_INLINE_ALL
#define XXH_VECTOR XXH_SCALAR
#include <xxhash.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <span>
#include <string>

#include <fmt/format.h>

namespace slipway {
namespace {

std::string RandomBytes(std::size_t count) {
  std::mt19937 random(11);
  std::string bytes(count, '\0');
  std::ranges::generate(bytes, [&random] { return static_cast<char>(random()); });
  return bytes;
}

std::string InPieces(DigestAlgorithm algorithm, std::string_view bytes, std::size_t piece) {
  Digest digest(algorithm);
  for (std::size_t at = 0; at < bytes.size(); at += piece) {
    digest.Update(bytes.substr(at, piece));
  }
  return digest.Finish();
}

TEST(Digest, Xxh3IsItsScalarReferences) {
  const std::string bytes = RandomBytes(100'000);
  for (const std::size_t size :
       {0UL, 1UL, 16UL, 17UL, 128UL, 129UL, 240UL, 241UL, 256UL, 1024UL, 65'537UL, 100'000UL}) {
    const std::string_view part = std::string_view(bytes).substr(0, size);
    const std::uint64_t expected = XXH3_64bits(part.data(), part.size());
    EXPECT_EQ(Xxh3(std::as_bytes(std::span(part))), expected) << size;
    for (const std::size_t piece : {1UL, 63UL, 256UL, 4096UL, 100'000UL}) {
      EXPECT_EQ(InPieces(DigestAlgorithm::kXxh3, part, piece), fmt::format("{:016x}", expected)) << size;
    }
  }
}

// The vectors of FIPS 180-4's examples.
TEST(Digest, Sha256IsTheStandards) {
  EXPECT_EQ(Sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(InPieces(DigestAlgorithm::kSha256, "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 5),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

TEST(Digest, NoneIsEmptyAndNamesAreReadBack) {
  EXPECT_EQ(InPieces(DigestAlgorithm::kNone, "abc", 1), "");
  for (const auto algorithm : {DigestAlgorithm::kSha256, DigestAlgorithm::kXxh3, DigestAlgorithm::kNone}) {
    EXPECT_EQ(DigestAlgorithmFromName(NameOf(algorithm)), algorithm);
  }
  EXPECT_FALSE(DigestAlgorithmFromName("md5"));
}

}  // namespace
}  // namespace slipway
