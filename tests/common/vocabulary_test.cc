#include "common/vocabulary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"

namespace slipway {
namespace {

using testing::ElementsAre;

TEST(Vocabulary, WordsAreThoseOfTheCommandLine) {
  EXPECT_THAT(NamesOf(KvCaches()), ElementsAre("none", "fp8", "nvfp4"));
  EXPECT_THAT(NamesOf(ConfigForms()), ElementsAre("auto", "modelopt", "compressed-tensors", "native"));
  EXPECT_THAT(NamesOf(ScaleSearches()), ElementsAre("amax", "mse"));
}

TEST(Vocabulary, WhatAsksForNothingComesFirstAndCanBeDone) {
  for (const auto words : {Targets(), QuantizationFormats(), KvCaches(), ConfigForms(), ScaleSearches()}) {
    EXPECT_TRUE(CheckWord(words, "--option", words.front().name).ok()) << words.front().name;
  }
}

TEST(Vocabulary, AWordThatIsNotThereIsNamedWithTheOptionAndWhatThereIs) {
  const absl::Status status = CheckWord(KvCaches(), "--kv-cache", "int8");
  EXPECT_EQ(ReasonOf(status), Reason::kInvalidArgument);
  EXPECT_EQ(status.message(), "--kv-cache: there is no 'int8'; there are none, fp8, nvfp4.");
}

}  // namespace
}  // namespace slipway
