#include <filesystem>
#include <fstream>
#include <iterator>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/digest.h"
#include "tests/server/services/service_fixture.h"

namespace slipway::server {
namespace {

using testing::SizeIs;

constexpr std::int64_t kMebibyte = 1 << 20;

class ArtifactServiceTest : public ServiceTest {
 protected:
  // An export that has succeeded.
  v1::Export Finished() {
    const FakeWorker worker(channel_, "w");
    const std::string name = Create(Request()).name();
    WatchToTheEnd(name);
    return Get(name);
  }

  struct Download {
    absl::Status status;
    std::string bytes;
    std::size_t chunks = 0;
  };
  Download Fetch(const std::string& name, const std::string& path, std::int64_t offset = 0, std::int64_t length = 0) {
    v1::DownloadArtifactFileRequest request;
    request.set_name(name);
    request.set_path(path);
    request.set_offset(offset);
    request.set_length(length);
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    const auto stream = artifacts_->DownloadArtifactFile(&context, request);
    Download download;
    v1::DownloadArtifactFileResponse chunk;
    while (stream->Read(&chunk)) {
      EXPECT_EQ(chunk.offset(), offset + static_cast<std::int64_t>(download.bytes.size()));
      EXPECT_LE(chunk.data().size(), static_cast<std::size_t>(kMebibyte));
      EXPECT_EQ(chunk.xxh3(), Xxh3(std::as_bytes(std::span(chunk.data()))));
      download.bytes += chunk.data();
      ++download.chunks;
    }
    const grpc::Status status = stream->Finish();
    EXPECT_TRUE(status.ok() || context.GetServerTrailingMetadata().count(kErrorMetadataKey) == 1);
    download.status = FromGrpcStatus(status, context);
    return download;
  }

  static std::string ContentOf(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }
};

TEST_F(ArtifactServiceTest, FilesAreListedWithTheManifestAmongThem) {
  const v1::Export exported = Finished();
  v1::ListArtifactFilesRequest request;
  request.set_name(exported.name());
  v1::ListArtifactFilesResponse response;
  ASSERT_TRUE(StatusOf([&](grpc::ClientContext& context) {
                return artifacts_->ListArtifactFiles(&context, request, &response);
              }).ok());
  ASSERT_THAT(response.files(), SizeIs(3));
  EXPECT_EQ(response.files(0).path(), "config.json");
  EXPECT_EQ(response.files(1).path(), "manifest.json");
  EXPECT_EQ(response.files(1).digest(), Sha256(ContentOf(exported.artifact_path() + "/manifest.json")));
  EXPECT_EQ(response.files(2).path(), "model.safetensors");
  EXPECT_EQ(response.files(2).size(), 3'145'799);
}

TEST_F(ArtifactServiceTest, EveryRangeIsTheFilesOwnBytes) {
  const v1::Export exported = Finished();
  const std::string file = ContentOf(exported.artifact_path() + "/model.safetensors");
  const auto size = static_cast<std::int64_t>(file.size());
  const std::vector<std::pair<std::int64_t, std::int64_t>> ranges = {
      {0, 0}, {0, 1}, {kMebibyte - 1, 2}, {12'345, 2 * kMebibyte}, {size - 7, 0}, {size, 0}, {size - 1, 100}};
  for (const auto& [offset, length] : ranges) {
    const Download download = Fetch(exported.name(), "model.safetensors", offset, length);
    ASSERT_TRUE(download.status.ok()) << Describe(download.status);
    EXPECT_TRUE(download.bytes == file.substr(static_cast<std::size_t>(offset),
                                              length == 0 ? std::string::npos : static_cast<std::size_t>(length)))
        << offset << " " << length;
  }
  EXPECT_EQ(Fetch(exported.name(), "model.safetensors").chunks, 4U);
}

TEST_F(ArtifactServiceTest, OnlyWhatTheManifestListsCanBeRead) {
  const v1::Export exported = Finished();
  directory_.Write("artifacts/secret", "s");
  directory_.Write("artifacts/" + exported.name().substr(8) + "/unlisted", "s");
  for (const char* path : {"../secret", "/etc/passwd", "unlisted", "", ".", "config.json/", "./config.json"}) {
    const Download download = Fetch(exported.name(), path);
    EXPECT_EQ(ReasonOf(download.status), Reason::kNotFound) << path;
    EXPECT_EQ(download.bytes, "") << path;
  }
}

TEST_F(ArtifactServiceTest, ALinkThatReplacedAFileIsNotFollowed) {
  const v1::Export exported = Finished();
  directory_.Write("secret", "{}");
  const std::string file = exported.artifact_path() + "/config.json";
  std::filesystem::remove(file);
  std::filesystem::create_symlink(directory_.path() + "/secret", file);
  const Download download = Fetch(exported.name(), "config.json");
  EXPECT_FALSE(download.status.ok());
  EXPECT_EQ(download.bytes, "");
}

TEST_F(ArtifactServiceTest, RangesThatCannotBeAreRefused) {
  const v1::Export exported = Finished();
  EXPECT_EQ(ReasonOf(Fetch(exported.name(), "config.json", -1).status), Reason::kInvalidArgument);
  EXPECT_EQ(ReasonOf(Fetch(exported.name(), "config.json", 0, -1).status), Reason::kInvalidArgument);
  EXPECT_EQ(ReasonOf(Fetch(exported.name(), "config.json", 3).status), Reason::kInvalidArgument);
}

TEST_F(ArtifactServiceTest, AFileOfAnotherSizeThanTheManifestSaysIsCorrupt) {
  const v1::Export exported = Finished();
  std::filesystem::resize_file(exported.artifact_path() + "/model.safetensors", 1000);
  EXPECT_EQ(ReasonOf(Fetch(exported.name(), "model.safetensors").status), Reason::kArtifactCorrupt);
}

TEST_F(ArtifactServiceTest, ManifestsThatLeaveTheirDirectoryOrAreNoneAreCorrupt) {
  const v1::Export exported = Finished();
  const std::string manifest = "artifacts/" + exported.name().substr(8) + "/manifest.json";
  for (const char* text :
       {"", "{", "[]", "{}", R"({"digest_algorithm": "sha256", "files": [{"path": "../x", "size": 1}]})",
        R"({"digest_algorithm": "sha256", "files": [{"path": "x", "size": -1}]})",
        R"({"digest_algorithm": "sha256", "files": [{"path": 7, "size": 1}]})"}) {
    directory_.Write(manifest, text);
    EXPECT_EQ(ReasonOf(Fetch(exported.name(), "config.json").status), Reason::kArtifactCorrupt) << text;
  }
}

TEST_F(ArtifactServiceTest, WithoutAnArtifactTheAnswerSaysWhetherToWait) {
  const std::string name = Create(Request()).name();
  EXPECT_EQ(ReasonOf(Fetch(name, "config.json").status), Reason::kExportNotFinished);
  EXPECT_EQ(ReasonOf(Fetch("exports/0000000000000000", "config.json").status), Reason::kNotFound);
}

}  // namespace
}  // namespace slipway::server
