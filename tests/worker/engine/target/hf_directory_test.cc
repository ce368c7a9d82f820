#include "worker/engine/target/hf_directory.h"

#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/support/temporary_directory.h"

namespace slipway::engine {
namespace {

using slipway::test::TemporaryDirectory;

HfDirectory Open(const std::string& path) {
  auto directory = HfDirectory::Open(path);
  EXPECT_TRUE(directory.ok()) << Describe(directory.status());
  return *directory;
}

TEST(HfDirectory, FilesAndLinksBelowItAreTaken) {
  const TemporaryDirectory root;
  root.Write("config.json", "{}");
  root.Write("deep/tokenizer.json", "tok");
  root.Link("deep/tokenizer.json", "tokenizer.json");
  const HfDirectory directory = Open(root / "");
  EXPECT_EQ(*directory.Read("config.json", 100), "{}");
  EXPECT_EQ(*directory.Read("tokenizer.json", 100), "tok");
  const auto sidecar = directory.Sidecar("tokenizer.json");
  ASSERT_TRUE(sidecar.ok());
  EXPECT_EQ(sidecar->path, "tokenizer.json");
  EXPECT_EQ(sidecar->source, root / "deep/tokenizer.json");
  EXPECT_EQ(sidecar->identity.size, 3);
  EXPECT_EQ(*directory.Files(), (std::vector<std::string>{"config.json", "tokenizer.json"}));
}

TEST(HfDirectory, ALinkThatLeadsOutIsRefused) {
  const TemporaryDirectory root;
  root.Write("secret", "s");
  root.Write("model-neighbour/secret", "s");
  root.Write("model/config.json", "{}");
  root.Link("../secret", "model/tokenizer.json");
  root.Link("../model-neighbour/secret", "model/vocab.json");
  const HfDirectory directory = Open(root / "model");
  for (const char* name : {"tokenizer.json", "vocab.json", "../secret"}) {
    EXPECT_EQ(ReasonOf(directory.Read(name, 100).status()), Reason::kPathOutsideRoot) << name;
    EXPECT_EQ(ReasonOf(directory.Sidecar(name).status()), Reason::kPathOutsideRoot) << name;
  }
}

TEST(HfDirectory, ASnapshotOfTheHubsCacheMayLinkToItsBlobsAndNoFurther) {
  const TemporaryDirectory root;
  root.Write("models--x--y/blobs/abc", "{}");
  root.Write("models--other/blobs/abc", "{}");
  root.Link("../../blobs/abc", "models--x--y/snapshots/rev/config.json");
  root.Link("../../../models--other/blobs/abc", "models--x--y/snapshots/rev/tokenizer.json");
  const HfDirectory directory = Open(root / "models--x--y/snapshots/rev");
  EXPECT_EQ(*directory.Read("config.json", 100), "{}");
  EXPECT_EQ(ReasonOf(directory.Read("tokenizer.json", 100).status()), Reason::kPathOutsideRoot);
}

TEST(HfDirectory, WhatIsNotThereIsNotFound) {
  const TemporaryDirectory root;
  EXPECT_EQ(ReasonOf(HfDirectory::Open(root / "nothing").status()), Reason::kCheckpointNotFound);
  root.Write("file", "x");
  EXPECT_EQ(ReasonOf(HfDirectory::Open(root / "file").status()), Reason::kCheckpointNotFound);
  EXPECT_FALSE(Open(root / "").Has("config.json"));
}

TEST(HfDirectory, AFileThatIsTooLongIsRefused) {
  const TemporaryDirectory root;
  root.Write("config.json", std::string(101, ' '));
  EXPECT_EQ(ReasonOf(Open(root / "").Read("config.json", 100).status()), Reason::kLimitExceeded);
}

}  // namespace
}  // namespace slipway::engine
