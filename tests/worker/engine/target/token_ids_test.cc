#include "worker/engine/target/token_ids.h"

#include <gtest/gtest.h>

namespace slipway::engine {
namespace {

using nlohmann::json;

TEST(TokenIds, TokensAreFoundAmongTheAddedOnesWhetherTextOrObject) {
  const json config = {{"bos_token", "<s>"},
                       {"eos_token", {{"content", "</s>"}, {"lstrip", false}}},
                       {"pad_token", nullptr},
                       {"added_tokens_decoder", {{"1", {{"content", "<s>"}}}, {"2", {{"content", "</s>"}}}}}};
  EXPECT_EQ(TokenIdsOf(config), (json{{"bos_token_id", 1}, {"eos_token_id", 2}}));
}

TEST(TokenIds, WhatIsNotKnownIsLeftOut) {
  for (const json& config : {json::object(), json(nullptr), json::array(), json{{"bos_token", "<s>"}},
                             json{{"bos_token", 7}, {"added_tokens_decoder", {{"1", {{"content", "<s>"}}}}}},
                             json{{"bos_token", "<s>"}, {"added_tokens_decoder", {{"1x", {{"content", "<s>"}}}}}},
                             json{{"bos_token", "<s>"}, {"added_tokens_decoder", "no"}}}) {
    EXPECT_EQ(TokenIdsOf(config), json::object()) << config;
  }
}

}  // namespace
}  // namespace slipway::engine
