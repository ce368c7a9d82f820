#include "client/private_directory.h"

#include <filesystem>
#include <fstream>

#include <cstdlib>

#include <gtest/gtest.h>

namespace slipway {
namespace {

namespace fs = std::filesystem;

class PrivateDirectoryTest : public testing::Test {
 protected:
  PrivateDirectoryTest() {
    std::string name = testing::TempDir() + "/sweep-XXXXXX";
    base_ = mkdtemp(name.data());
  }
  ~PrivateDirectoryTest() override { fs::remove_all(base_); }
  std::string base_;
};

TEST_F(PrivateDirectoryTest, IsForItsOwnerAloneAndGoesWithHim) {
  std::string path;
  {
    const auto directory = PrivateDirectory::Make(base_);
    ASSERT_TRUE(directory.ok());
    path = directory->path();
    EXPECT_EQ(fs::status(path).permissions(), fs::perms::owner_all);
    std::ofstream(path + "/file") << "x";
  }
  EXPECT_FALSE(fs::exists(path));
}

TEST_F(PrivateDirectoryTest, ALivingOneIsNotSwept) {
  const auto directory = PrivateDirectory::Make(base_);
  ASSERT_TRUE(directory.ok());
  EXPECT_EQ(SweepPrivateDirectories(base_), 0);
  EXPECT_TRUE(fs::exists(directory->path()));
}

TEST_F(PrivateDirectoryTest, WhatADeadProgramLeftIsSwept) {
  const std::string left = base_ + "/slipway-local-abcdef";
  fs::create_directories(left + "/data");
  std::ofstream(left + "/client.lock") << "";
  EXPECT_EQ(SweepPrivateDirectories(base_), 1);
  EXPECT_FALSE(fs::exists(left));
}

TEST_F(PrivateDirectoryTest, OneThatIsBeingMadeIsNotSwept) {
  const std::string young = base_ + "/slipway-local-young1";
  fs::create_directories(young);
  EXPECT_EQ(SweepPrivateDirectories(base_), 0);
  EXPECT_TRUE(fs::exists(young));
}

TEST_F(PrivateDirectoryTest, OtherThingsAndLinksAreNotTouched) {
  fs::create_directories(base_ + "/other");
  std::ofstream(base_ + "/other/client.lock") << "";
  fs::create_directory_symlink(base_ + "/other", base_ + "/slipway-local-link00");
  EXPECT_EQ(SweepPrivateDirectories(base_), 0);
  EXPECT_TRUE(fs::exists(base_ + "/other/client.lock"));
}

}  // namespace
}  // namespace slipway
