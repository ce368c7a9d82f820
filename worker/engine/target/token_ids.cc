#include "worker/engine/target/token_ids.h"

#include <charconv>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>

namespace slipway::engine {
namespace {

using nlohmann::json;

// A token is its text, or an object with its text as "content".
std::optional<std::string> TextOf(const json& token) {
  if (token.is_string()) {
    return token.get<std::string>();
  }
  if (token.is_object()) {
    if (const auto content = token.find("content"); content != token.end() && content->is_string()) {
      return content->get<std::string>();
    }
  }
  return std::nullopt;
}

std::map<std::string, std::int64_t> AddedTokens(const json& tokenizer_config) {
  std::map<std::string, std::int64_t> ids;
  const auto added = tokenizer_config.find("added_tokens_decoder");
  if (added == tokenizer_config.end() || !added->is_object()) {
    return ids;
  }
  for (const auto& [number, token] : added->items()) {
    std::int64_t id = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), id);
    const std::optional<std::string> text = TextOf(token);
    if (error == std::errc() && end == number.data() + number.size() && text) {
      ids.emplace(*text, id);
    }
  }
  return ids;
}

}  // namespace

json TokenIdsOf(const json& tokenizer_config) {
  json ids = json::object();
  if (!tokenizer_config.is_object()) {
    return ids;
  }
  const std::map<std::string, std::int64_t> added = AddedTokens(tokenizer_config);
  for (const auto& [field, name] : {std::pair("bos_token_id", "bos_token"), std::pair("eos_token_id", "eos_token"),
                                    std::pair("pad_token_id", "pad_token")}) {
    const auto token = tokenizer_config.find(name);
    const auto text = token == tokenizer_config.end() ? std::nullopt : TextOf(*token);
    if (const auto id = text ? added.find(*text) : added.end(); id != added.end()) {
      ids[field] = id->second;
    }
  }
  return ids;
}

}  // namespace slipway::engine
