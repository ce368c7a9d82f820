// JSON from the engine or a server as text for people: what is missing or of another type reads as nothing. Pure.
#pragma once

#include <cstdint>
#include <string>

#include <nlohmann/json.hpp>

namespace slipway {

// A member, or null.
const nlohmann::ordered_json& At(const nlohmann::ordered_json& object, const char* key);
// 0 where it is no number.
std::int64_t IntegerAt(const nlohmann::ordered_json& object, const char* key);

// A value in one line: text as it is, arrays as [1, 2], null as nothing.
std::string TextOf(const nlohmann::ordered_json& value);
std::string TextAt(const nlohmann::ordered_json& object, const char* key);

// A table of entries that an export ignores, after an empty line; empty where there are none.
std::string RenderIgnored(const nlohmann::ordered_json& ignored, int width);

}  // namespace slipway
