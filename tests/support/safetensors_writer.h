// Hugging Face directories for tests, written without any of the engine's own code.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::test {

struct HfTensor {
  std::string name;
  std::string dtype;  // as the format spells it
  std::vector<std::int64_t> shape;
  std::string bytes;
};

// A safetensors file of these tensors, one after the other.
inline std::string SafetensorsFile(const std::vector<HfTensor>& tensors) {
  std::string json = "{";
  std::string data;
  for (const HfTensor& tensor : tensors) {
    json += (json.size() > 1 ? ",\"" : "\"") + tensor.name + R"(":{"dtype":")" + tensor.dtype + R"(","shape":[)";
    for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
      json += (i > 0 ? "," : "") + std::to_string(tensor.shape[i]);
    }
    json += "],\"data_offsets\":[" + std::to_string(data.size()) + ",";
    data += tensor.bytes;
    json += std::to_string(data.size()) + "]}";
  }
  json += "}";
  std::string length(8, '\0');
  for (int i = 0; i < 8; ++i) {
    length[static_cast<std::size_t>(i)] = static_cast<char>(json.size() >> (8 * i) & 0xFF);
  }
  return length + json + data;
}

}  // namespace slipway::test
