// The words that name formats: what can be written, what can be quantized and how, and what is there yet. All three
// programs know them from here.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

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
std::span<const Word> KvCaches();       // what engines keep keys and values in: --kv-cache
std::span<const Word> ConfigForms();    // how config.json describes the quantization: --config-form
std::span<const Word> ScaleSearches();  // how scales of weights are chosen: --scale-search

// Whether that target's files belong to ranks of a server: it is written for given numbers of processes.
bool HasRanks(std::string_view target);

std::vector<std::string> NamesOf(std::span<const Word> words);

// INVALID_ARGUMENT where no word has that name, OPTION_UNSUPPORTED where this version cannot do it yet; both name
// `option` and what there is instead.
absl::Status CheckWord(std::span<const Word> words, std::string_view option, std::string_view name);

}  // namespace slipway
