#include "worker/engine/checkpoint/pickle_globals.h"

#include <algorithm>
#include <array>

namespace slipway::engine {
namespace {

using enum PickleForm;

struct Global {
  std::string_view module;
  std::string_view name;
  PickleForm form;
};

// Before the packages below, so that a form other than kOpaque wins. Both spellings of the modules that Python 3
// renamed occur: protocol 2 writes the old ones.
constexpr std::array kGlobals = std::to_array<Global>({
    {"collections", "OrderedDict", kDictionary},
    {"collections", "defaultdict", kOpaque},
    {"argparse", "Namespace", kOpaque},
    {"types", "SimpleNamespace", kOpaque},
    {"torch", "Size", kTuple},
    {"torch._utils", "_rebuild_parameter", kFirst},
    {"torch._utils", "_rebuild_parameter_with_state", kFirst},
    {"functools", "partial", kOpaque},
    {"_codecs", "encode", kBytes},
    {"_io", "BytesIO", kOpaque},
    {"io", "BytesIO", kOpaque},
    {"copy_reg", "_reconstructor", kInstance},
    {"copyreg", "_reconstructor", kInstance},
    {"builtins", "set", kSequence},
    {"builtins", "frozenset", kSequence},
    {"builtins", "list", kSequence},
    {"builtins", "dict", kDictionary},
    {"builtins", "tuple", kTuple},
    {"builtins", "bytes", kBytes},
    {"builtins", "bytearray", kBytes},
    {"builtins", "int", kOpaque},
    {"builtins", "float", kOpaque},
    {"builtins", "bool", kOpaque},
    {"builtins", "str", kOpaque},
    {"builtins", "complex", kOpaque},
    {"builtins", "slice", kOpaque},
    {"builtins", "range", kOpaque},
    {"builtins", "object", kOpaque},
    {"datetime", "timedelta", kOpaque},
    {"uuid", "UUID", kOpaque},
});

// Packages whose every name is data to us: the training framework's own classes, enums and dtypes.
constexpr std::array kOpaquePackages = std::to_array<std::string_view>(
    {"torch", "megatron", "transformer_engine", "modelopt", "numpy", "signal", "pathlib"});

bool IsIn(std::string_view module, std::string_view package) {
  return module.starts_with(package) && (module.size() == package.size() || module[package.size()] == '.');
}

}  // namespace

std::optional<PickleForm> FormOfGlobal(std::string_view module, std::string_view name) {
  if (module == "__builtin__") {
    module = "builtins";
  }
  const auto* const row = std::ranges::find_if(
      kGlobals, [&](const Global& global) { return global.module == module && global.name == name; });
  if (row != kGlobals.end()) {
    return row->form;
  }
  const bool opaque =
      std::ranges::any_of(kOpaquePackages, [&](std::string_view package) { return IsIn(module, package); });
  return opaque ? std::optional(kOpaque) : std::nullopt;
}

}  // namespace slipway::engine
