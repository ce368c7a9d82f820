// The words of the command line that name formats: what can be written, what can be quantized, and what is there yet.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace slipway {

struct Word {
  std::string_view name;
  std::string_view summary;  // what it is
  std::string_view needs;    // what a job must supply
  std::string_view loaders;  // who loads the result
  bool supported = false;    // by this version
};

// Static storage.
std::span<const Word> Targets();
std::span<const Word> QuantizationFormats();

std::vector<std::string> NamesOf(std::span<const Word> words);

}  // namespace slipway
