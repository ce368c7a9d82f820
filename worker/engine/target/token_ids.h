// The special tokens that a config.json names by number.
#pragma once

#include <nlohmann/json.hpp>

namespace slipway::engine {

// bos_token_id, eos_token_id and pad_token_id, as far as they are known: from tokenizer_config.json's bos_token,
// eos_token and pad_token and its added_tokens_decoder. Never throws; what does not fit is left out.
nlohmann::json TokenIdsOf(const nlohmann::json& tokenizer_config);

}  // namespace slipway::engine
