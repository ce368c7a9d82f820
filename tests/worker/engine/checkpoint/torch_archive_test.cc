#include "worker/engine/checkpoint/torch_archive.h"

#include <cstring>
#include <sstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/support/memory_source.h"
#include "tests/support/torch_writer.h"

namespace slipway::engine {
namespace {

constexpr std::string_view kStorage = "0123456789abcdef";

// An archive of one tensor of 8 bfloat16.
std::string Archive() {
  std::ostringstream out;
  test::WriteTorchArchive(out, "archive", test::TensorPickle("BFloat16Storage", {8}, 8),
                          {{.size = 16, .write = [](std::ostream& stream, std::int64_t) { stream << kStorage; }}});
  return out.str();
}

template <typename T>
void Put(std::string& bytes, std::size_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof(value));
}

// The position of the central directory's entry of a member.
std::size_t EntryOf(const std::string& archive, std::string_view member) {
  return archive.rfind(member, archive.rfind("PK\5\6")) - 46;
}

absl::Status Open(const std::string& bytes) {
  const test::MemoryFile file(bytes, "x.distcp");
  return TorchArchive::Open(file, 0, file.size()).status();
}

void ExpectCorrupt(const std::string& bytes) {
  const absl::Status status = Open(bytes);
  EXPECT_EQ(ReasonOf(status), Reason::kCheckpointCorrupt) << Describe(status);
  EXPECT_EQ(WhereOf(status).file, "x.distcp");
  EXPECT_TRUE(WhereOf(status).offset.has_value());
}

TEST(TorchArchive, FindsAStorageWhereverTheArchiveLies) {
  for (const std::size_t before : {0U, 1U, 63U}) {
    const test::MemoryFile file(std::string(before, 'x') + Archive() + "behind");
    const auto archive =
        TorchArchive::Open(file, static_cast<std::int64_t>(before), static_cast<std::int64_t>(Archive().size()));
    ASSERT_TRUE(archive.ok()) << Describe(archive.status());
    const auto storage = archive->Storage("0");
    ASSERT_TRUE(storage.ok()) << Describe(storage.status());
    std::string read(16, '\0');
    ASSERT_TRUE(file.ReadAt(storage->position, std::as_writable_bytes(std::span(read))).ok());
    EXPECT_EQ(read, kStorage);
    EXPECT_TRUE(archive->ReadPickle().ok());
  }
}

TEST(TorchArchive, AMissingMemberIsNamed) {
  const test::MemoryFile file(Archive());
  const auto archive = TorchArchive::Open(file, 0, file.size());
  const absl::Status status = archive->Storage("7").status();
  EXPECT_EQ(ReasonOf(status), Reason::kCheckpointCorrupt);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("data/7"));
}

TEST(TorchArchive, CutAnywhereItIsCorrupt) {
  const std::string archive = Archive();
  for (std::size_t size = 0; size < archive.size(); size += 7) {
    EXPECT_EQ(ReasonOf(Open(archive.substr(0, size))), Reason::kCheckpointCorrupt) << size;
  }
}

TEST(TorchArchive, ACompressedMemberIsRefusedByName) {
  std::string archive = Archive();
  Put<std::uint16_t>(archive, EntryOf(archive, "archive/data/0") + 10, 8);  // deflate
  const absl::Status status = Open(archive);
  EXPECT_EQ(ReasonOf(status), Reason::kCheckpointUnsupported);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("archive/data/0"));
}

TEST(TorchArchive, AMemberLargerThanTheArchiveIsCorrupt) {
  std::string archive = Archive();
  const std::size_t entry = EntryOf(archive, "archive/data/0");
  Put<std::uint32_t>(archive, entry + 20, 0x7fffffff);
  Put<std::uint32_t>(archive, entry + 24, 0x7fffffff);
  ExpectCorrupt(archive);
}

TEST(TorchArchive, OverlappingMembersAreCorrupt) {
  std::string archive = Archive();
  const std::size_t entry = EntryOf(archive, "archive/data/0");
  Put<std::uint32_t>(archive, entry + 20, 200);  // reaches into the member behind
  Put<std::uint32_t>(archive, entry + 24, 200);
  ExpectCorrupt(archive);
}

TEST(TorchArchive, TwoMembersOfOneNameAreCorrupt) {
  std::ostringstream out;
  const auto nothing = [](std::ostream&, std::int64_t) {};
  test::WriteTorchArchive(out, "archive", "", {{.size = 0, .write = nothing}, {.size = 0, .write = nothing}});
  std::string archive = out.str();
  archive[EntryOf(archive, "archive/data/1") + 46 + 13] = '0';
  ExpectCorrupt(archive);
}

TEST(TorchArchive, ALocalHeaderThatLiesIsCorrupt) {
  std::string archive = Archive();
  const std::size_t local = archive.find("archive/data/0") - 30;
  Put<std::uint16_t>(archive, local + 28, 0xffff);  // extra field past the member's end
  const test::MemoryFile file(archive);
  const auto opened = TorchArchive::Open(file, 0, file.size());
  ASSERT_TRUE(opened.ok()) << Describe(opened.status());
  EXPECT_EQ(ReasonOf(opened->Storage("0").status()), Reason::kCheckpointCorrupt);
}

TEST(TorchArchive, BigEndianIsRefused) {
  std::string archive = Archive();
  const std::size_t order = archive.find("little");
  ASSERT_NE(order, std::string::npos);
  archive.replace(order, 6, "big   ");
  EXPECT_EQ(ReasonOf(Open(archive)), Reason::kCheckpointUnsupported);
}

TEST(TorchArchive, ATorchFileBeforeZipIsNamedAsSuch) {
  EXPECT_EQ(ReasonOf(Open("\x80\x02" + std::string(100, 'x'))), Reason::kCheckpointUnsupported);
}

TEST(TorchArchive, ARangeOutsideTheFileIsCorrupt) {
  const test::MemoryFile file("x");
  EXPECT_EQ(ReasonOf(TorchArchive::Open(file, 0, 2).status()), Reason::kCheckpointCorrupt);
  EXPECT_EQ(ReasonOf(TorchArchive::Open(file, 2, 0).status()), Reason::kCheckpointCorrupt);
  EXPECT_EQ(ReasonOf(TorchArchive::Open(file, 0, INT64_MAX).status()), Reason::kCheckpointCorrupt);
}

}  // namespace
}  // namespace slipway::engine
