#include "client/artifact_download.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <sstream>

#include <gtest/gtest.h>

#include "client/partial_download.h"
#include "common/digest.h"
#include "common/error.h"
#include "slipway/v1/artifact.grpc.pb.h"
#include "tests/client/fake_server.h"

namespace slipway {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kChunk = std::size_t{64} << 10;

// Serves files from memory, with faults on demand.
class FakeArtifacts : public v1::ArtifactService::Service {
 public:
  std::map<std::string, std::string> files;
  std::map<std::string, std::string> listed_digests;  // instead of the true ones
  int break_after_chunks = -1;                        // every stream; negative: never
  int damaged_chunks = 0;                             // so many to come are damaged
  std::int64_t bytes_served = 0;

  grpc::Status ListArtifactFiles(grpc::ServerContext*, const v1::ListArtifactFilesRequest*,
                                 v1::ListArtifactFilesResponse* response) override {
    for (const auto& [path, content] : files) {
      v1::ArtifactFile& file = *response->add_files();
      file.set_path(path);
      file.set_size(static_cast<std::int64_t>(content.size()));
      file.set_digest_algorithm("sha256");
      file.set_digest(listed_digests.contains(path) ? listed_digests[path] : Sha256(content));
    }
    return grpc::Status::OK;
  }

  grpc::Status DownloadArtifactFile(grpc::ServerContext*, const v1::DownloadArtifactFileRequest* request,
                                    grpc::ServerWriter<v1::DownloadArtifactFileResponse>* writer) override {
    const std::string& content = files[request->path()];
    auto offset = static_cast<std::size_t>(request->offset());
    const std::size_t end = offset + static_cast<std::size_t>(request->length());
    for (int chunks = 0; offset < end; ++chunks) {
      if (chunks == break_after_chunks) {
        return {grpc::StatusCode::UNAVAILABLE, "restarting"};
      }
      v1::DownloadArtifactFileResponse chunk;
      chunk.set_offset(static_cast<std::int64_t>(offset));
      chunk.set_data(content.substr(offset, std::min(kChunk, end - offset)));
      chunk.set_xxh3(Xxh3(std::as_bytes(std::span(chunk.data()))));
      offset += chunk.data().size();
      const std::scoped_lock lock(mutex_);
      bytes_served += static_cast<std::int64_t>(chunk.data().size());
      if (damaged_chunks > 0) {
        --damaged_chunks;
        chunk.mutable_data()->front() ^= 1;
      }
      writer->Write(chunk);
    }
    return grpc::Status::OK;
  }

 private:
  std::mutex mutex_;
};

std::string Bytes(std::size_t size, unsigned seed) {
  std::string text(size, '\0');
  for (char& byte : text) {
    seed = seed * 1664525U + 1013904223U;
    byte = static_cast<char>(seed >> 24U);
  }
  return text;
}

std::string Content(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

class ArtifactDownloadTest : public testing::Test {
 protected:
  ArtifactDownloadTest() : server_(artifacts_), output_(server_.directory() + "/out") {
    artifacts_.files = {{"config.json", "{}"},
                        {"empty", ""},
                        {"model.safetensors", Bytes(10 * kChunk + 17, 1)},
                        {"sub/tokenizer.json", Bytes(3 * kChunk, 2)}};
  }

  absl::Status Download(int attempts = 50, bool overwrite = false) {
    const RetryPolicy policy{.attempts = attempts, .wait = [](std::chrono::milliseconds, const std::stop_token&) {}};
    return DownloadArtifact(server_.Dial(), {.name = "1", .output = output_, .overwrite = overwrite}, policy, {}, {});
  }

  void ExpectWhole() const {
    for (const auto& [path, content] : artifacts_.files) {
      EXPECT_EQ(Content(output_ + "/" + path), content) << path;
    }
    EXPECT_FALSE(fs::exists(Beside()));
  }

  [[nodiscard]] std::string Beside() const { return server_.directory() + "/.out.slipway-download"; }
  [[nodiscard]] std::int64_t TotalBytes() const {
    std::int64_t total = 0;
    for (const auto& [path, content] : artifacts_.files) {
      total += static_cast<std::int64_t>(content.size());
    }
    return total;
  }

  FakeArtifacts artifacts_;
  FakeServer server_;
  const std::string output_;
};

TEST_F(ArtifactDownloadTest, EveryFileArrivesWholeAndNothingIsLeftBeside) {
  EXPECT_EQ(Download(), absl::OkStatus());
  ExpectWhole();
}

TEST_F(ArtifactDownloadTest, ABrokenStreamGoesOnWhereItWas) {
  artifacts_.break_after_chunks = 2;
  EXPECT_EQ(Download(), absl::OkStatus());
  ExpectWhole();
  EXPECT_EQ(artifacts_.bytes_served, TotalBytes());
}

TEST_F(ArtifactDownloadTest, ALaterDownloadFetchesOnlyWhatIsMissing) {
  artifacts_.break_after_chunks = 1;
  EXPECT_EQ(ReasonOf(Download(1)), Reason::kServerUnreachable);
  EXPECT_FALSE(fs::exists(output_));
  EXPECT_GT(artifacts_.bytes_served, 0);
  artifacts_.break_after_chunks = -1;
  EXPECT_EQ(Download(), absl::OkStatus());
  ExpectWhole();
  EXPECT_LT(artifacts_.bytes_served, TotalBytes() + static_cast<std::int64_t>(5 * kChunk));
}

TEST_F(ArtifactDownloadTest, WhatWasDamagedOnDiskMeanwhileIsFetchedAgain) {
  artifacts_.break_after_chunks = 1;
  EXPECT_FALSE(Download(1).ok());
  const std::string partial = Beside() + "/content/model.safetensors";
  ASSERT_TRUE(fs::exists(partial));
  std::fstream(partial, std::ios::in | std::ios::out | std::ios::binary).write("damaged", 7);
  artifacts_.break_after_chunks = -1;
  EXPECT_EQ(Download(), absl::OkStatus());
  ExpectWhole();
}

TEST_F(ArtifactDownloadTest, AChangedArtifactBeginsAnew) {
  artifacts_.break_after_chunks = 1;
  EXPECT_FALSE(Download(1).ok());
  artifacts_.break_after_chunks = -1;
  artifacts_.files["model.safetensors"] = Bytes(10 * kChunk + 17, 3);
  EXPECT_EQ(Download(), absl::OkStatus());
  ExpectWhole();
}

TEST_F(ArtifactDownloadTest, ADamagedChunkIsAskedForAgain) {
  artifacts_.damaged_chunks = 1;
  EXPECT_EQ(Download(), absl::OkStatus());
  ExpectWhole();
}

TEST_F(ArtifactDownloadTest, AServerThatOnlySendsDamageIsGivenUp) {
  artifacts_.damaged_chunks = 1'000'000;
  const absl::Status status = Download();
  EXPECT_EQ(ReasonOf(status), Reason::kArtifactCorrupt);
  EXPECT_FALSE(WhereOf(status).file.empty());
  EXPECT_FALSE(fs::exists(output_));
}

TEST_F(ArtifactDownloadTest, AFileThatIsNotTheListedOneIsNeverPublished) {
  artifacts_.listed_digests["config.json"] = Sha256("something else");
  const absl::Status status = Download();
  EXPECT_EQ(ReasonOf(status), Reason::kArtifactCorrupt);
  EXPECT_EQ(WhereOf(status).file, "config.json");
  EXPECT_FALSE(fs::exists(output_));
  EXPECT_FALSE(fs::exists(Beside()));
}

TEST_F(ArtifactDownloadTest, AnOutputThatExistsIsReplacedOnlyWhenAsked) {
  fs::create_directories(output_ + "/old");
  EXPECT_EQ(ReasonOf(Download()), Reason::kOutputExists);
  EXPECT_TRUE(fs::exists(output_ + "/old"));
  EXPECT_EQ(Download(50, /*overwrite=*/true), absl::OkStatus());
  EXPECT_FALSE(fs::exists(output_ + "/old"));
  ExpectWhole();
}

TEST_F(ArtifactDownloadTest, PathsThatLeaveTheOutputAreRefused) {
  for (const std::string path : {"../evil", "/etc/evil", "a/../../evil", "a//b", ".", ""}) {
    artifacts_.files = {{path, "x"}};
    EXPECT_EQ(ReasonOf(Download()), Reason::kPathOutsideRoot) << path;
  }
  EXPECT_FALSE(fs::exists(server_.directory() + "/evil"));
}

}  // namespace
}  // namespace slipway
