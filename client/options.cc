#include "client/options.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <span>
#include <string_view>

#include <fmt/format.h>

#include "common/byte_size.h"
#include "common/error.h"
#include "common/parallel_size.h"
#include "common/recipe_text.h"
#include "common/vocabulary.h"
#include "worker/engine/device/device.h"

namespace slipway {
namespace {

enum class ValueKind { kFlag, kText, kCount, kNumber };

// An option of the command line that this version parses and refuses.
struct LaterOption {
  std::string_view name;
  ValueKind kind;
  std::string_view placeholder;
  std::string_view help;
};

constexpr std::array kLaterOptions = std::to_array<LaterOption>({
    {"--calibration", ValueKind::kText, "PATH", "Tokens: a .bin/.idx prefix, .npy or .jsonl"},
    {"--calibration-samples", ValueKind::kCount, "N", "Number of calibration samples"},
    {"--calibration-length", ValueKind::kCount, "N", "Tokens of a calibration sample"},
    {"--effective-bits", ValueKind::kNumber, "X", "Mean bits a weight of a mixed-precision search"},
    {"--propagate-quantized", ValueKind::kFlag, "", "Calibrate on the quantized outputs of earlier layers"},
});

const CLI::Validator& ByteSize() {
  static const CLI::Validator kValidator(
      [](std::string& text) {
        const absl::StatusOr<std::int64_t> size = ParseByteSize(text);
        return size.ok() && *size > 0 ? std::string() : fmt::format("'{}' is not a size like 8GiB or 500MB", text);
      },
      "SIZE", "byte size");
  return kValidator;
}

void AddLaterOption(CLI::App& command, const LaterOption& later, std::vector<std::string>& given) {
  const std::string name(later.name);
  if (later.kind == ValueKind::kFlag) {
    command
        .add_flag_callback(
            name, [&given, name] { given.push_back(name); }, std::string(later.help))
        ->group("Not in this version yet");
    return;
  }
  CLI::Option* option = command.add_option_function<std::string>(
      name, [&given, name](const std::string& value) { given.push_back(fmt::format("{} {}", name, value)); },
      std::string(later.help));
  option->type_name(std::string(later.placeholder))->group("Not in this version yet");
  if (later.kind == ValueKind::kCount) {
    option->check(CLI::TypeValidator<std::uint32_t>())->check(CLI::PositiveNumber)->type_name("N");
  } else if (later.kind == ValueKind::kNumber) {
    option->check(CLI::PositiveNumber)->type_name("X");
  }
}

// The text of --recipe's file: what is wrong with it is wrong usage.
std::string ReadRecipe(const std::string& path) {
  std::string text(kMaximumRecipeBytes + 1, '\0');
  std::ifstream file(path, std::ios::binary);
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!file.is_open() || file.bad()) {
    throw CLI::ValidationError("--recipe", fmt::format("cannot read '{}'", path));
  }
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (const absl::Status checked = CheckRecipeText(path, text); !checked.ok()) {
    throw CLI::ValidationError("--recipe", std::string(checked.message()));
  }
  return text;
}

void AddQuantizationOptions(CLI::App& command, ExportFlags& flags) {
  const auto add_word = [&command](const char* name, std::string& value, std::span<const Word> words,
                                   const char* help) {
    return command.add_option(name, value, help)->type_name("WORD")->check(CLI::IsMember(NamesOf(words)));
  };
  CLI::Option* const quantization = add_word("--quantization", flags.quantization, QuantizationFormats(),
                                             "Format of the weights; `slipway formats` lists them")
                                        ->type_name("FORMAT");
  command
      .add_option_function<std::string>(
          "--recipe", [&flags](const std::string& path) { flags.recipe = ReadRecipe(path); },
          "Quantization rules by module name, instead of --quantization")
      ->type_name("FILE.yaml")
      ->excludes(quantization);
  add_word("--kv-cache", flags.kv_cache, KvCaches(), "Format of the KV cache (default: the recipe's, else none)");
  add_word("--config-form", flags.config_form, ConfigForms(),
           "How config.json describes the quantization (default: the recipe's, else auto)");
  add_word("--scale-search", flags.scale_search, ScaleSearches(),
           "How scales of weights are chosen (default: the recipe's, else amax)");
  command.add_option("--ranges", flags.ranges, "Supplied activation ranges")->type_name("FILE.safetensors");
}

// Of the targets whose files belong to ranks of a server.
void AddRankOptions(CLI::App& command, ExportFlags& flags) {
  const auto add_size = [&command](const char* name, std::int32_t& value, const char* help) {
    command.add_option(name, value, help)->type_name("N")->check(CLI::Range(1, int{kMaximumParallelSize}));
  };
  add_size("--tensor-parallel", flags.tensor_parallel,
           "Processes that share each layer (tensorrt-llm, *-sharded; default: 1)");
  add_size("--pipeline-parallel", flags.pipeline_parallel,
           "Processes that have consecutive layers each (tensorrt-llm, vllm-sharded; default: 1)");
  add_size("--expert-parallel", flags.expert_parallel,
           "Processes that have some of the experts each (tensorrt-llm; default: 1)");
  command
      .add_option("--tensorrt-llm-version", flags.tensorrt_llm_version,
                  "Version that target tensorrt-llm is for (default: what all of 0.11 to 1.2 load)")
      ->type_name("V");
}

absl::StatusOr<std::string> AbsolutePath(const std::string& path) {
  if (path.empty()) {
    return path;
  }
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::absolute(path, error);
  if (error) {
    return Error(Reason::kInvalidArgument, "the working directory is gone", {.file = path});
  }
  return absolute.lexically_normal().string();
}

}  // namespace

void AddConsoleOptions(CLI::App& command, CommandLine& line) {
  command.add_flag("--json", line.json, "One JSON object a line on stdout; progress goes to stderr")->group("Output");
  command.add_flag("--quiet", line.quiet, "No progress")->group("Output");
}

void AddServerOptions(CLI::App& command, ServerOptions& options) {
  const auto add = [&command](const char* name, std::string& value, const char* type, const char* help) {
    command.add_option(name, value, help)->type_name(type)->group("Server");
  };
  add("--server", options.address, "ADDRESS", "HOST:PORT or unix:PATH of a slipway-server");
  add("--tls-ca", options.tls_ca, "FILE", "Certificate authority of the server; switches TLS on");
  add("--tls-cert", options.tls_certificate, "FILE", "Own certificate");
  add("--tls-key", options.tls_key, "FILE", "Key of the own certificate");
  add("--token-file", options.token_file, "FILE", "File with the token to present");
}

void AddCheckpointArgument(CLI::App& command, std::string& checkpoint) {
  command.add_option("CHECKPOINT", checkpoint, "The checkpoint directory")->required()->type_name("");
}

void AddIterationOption(CLI::App& command, std::optional<std::int64_t>& iteration) {
  command.add_option("--iteration", iteration, "The iteration to read instead of the latest")
      ->type_name("N")
      ->check(CLI::NonNegativeNumber);
}

void AddNameArgument(CLI::App& command, std::string& name) {
  command.add_option("NAME", name, "The export: exports/ID, or ID")->required()->type_name("");
}

void AddExportOptions(CLI::App& command, ExportFlags& flags) {
  AddCheckpointArgument(command, flags.checkpoint);
  AddIterationOption(command, flags.iteration);
  command.add_option("--target", flags.targets, "What to write; repeatable (default: huggingface)")
      ->type_name("TARGET")
      ->take_all()
      ->allow_extra_args(false)
      ->check(CLI::IsMember(NamesOf(Targets())));
  AddRankOptions(command, flags);
  AddQuantizationOptions(command, flags);
  command
      .add_option("--hf-config", flags.hf_config, "Take config.json, tokenizer and generation config along from here")
      ->type_name("DIR");
  command.add_option("--architecture", flags.architecture, "A Hugging Face class name, over what was inferred")
      ->type_name("NAME");
  command.add_flag("--allow-custom-code", flags.allow_custom_code, "Take *.py along from --hf-config");
  CLI::Option* const adapter =
      command.add_option("--adapter", flags.adapter, "A LoRA adapter checkpoint to merge")->type_name("DIR");
  command.add_flag("--adapter-only", flags.adapter_only, "Export the adapter alone, as a PEFT directory")
      ->needs(adapter);
  command.add_option("--dtype", flags.dtype, "dtype of tensors that stay unquantized (default: the training run's)")
      ->type_name("DTYPE")
      ->check(CLI::IsMember(std::vector<std::string>{"bf16", "fp16", "fp32"}));
  command
      .add_option("--max-shard-size", flags.max_shard_size,
                  "Largest output file (default: 5GB; of quantized weights 1GB)")
      ->type_name("SIZE")
      ->check(ByteSize());
  command.add_option("--digest", flags.digest, "Digest of files in the manifest (default: sha256)")
      ->type_name("NAME")
      ->check(CLI::IsMember(std::vector<std::string>{"sha256", "xxh3", "none"}));
  command.add_option("--publish", flags.publish, "Publish here instead of under the service's artifact root")
      ->type_name("URI")
      ->group("Server");
  command.add_option("--priority", flags.priority, "From -100 to 100; higher runs first")
      ->type_name("N")
      ->check(CLI::Range(-100, 100))
      ->group("Server");
  command.add_flag("--overwrite", flags.overwrite, "Replace an output that exists");
  for (const LaterOption& later : kLaterOptions) {
    AddLaterOption(command, later, flags.not_yet);
  }
}

void AddResourceOptions(CLI::App& command, ResourceFlags& flags) {
  const auto in_group = [](CLI::Option* option, const char* type) { option->type_name(type)->group("Local mode"); };
  in_group(command.add_option("--workers", flags.workers, "Worker processes (default: 1)")->check(CLI::Range(1, 256)),
           "N");
  in_group(command.add_option("--threads", flags.threads, "Threads of a worker (default: as it chooses)")
               ->check(CLI::Range(1, 4096)),
           "N");
  in_group(command.add_option("--memory-budget", flags.memory_budget, "Memory of a worker")->check(ByteSize()), "SIZE");
  in_group(
      command.add_option("--gpu-memory-budget", flags.gpu_memory_budget, "GPU memory of a worker")->check(ByteSize()),
      "SIZE");
  in_group(command.add_option("--device", flags.device, "auto, cpu or cuda (default: auto)")
               ->check(CLI::IsMember(std::vector<std::string>{"auto", "cpu", "cuda"})),
           "DEVICE");
}

absl::Status CheckSupported(const ExportFlags& flags) {
  if (flags.not_yet.empty()) {
    return absl::OkStatus();
  }
  return Error(Reason::kOptionUnsupported, fmt::format("this version cannot do {} yet", flags.not_yet.front()));
}

absl::Status CheckDevice(const ResourceFlags& flags) {
  const auto is_first_gpu = [](const engine::Device& device) { return device.name == "cuda:0"; };
  if (flags.device != "cuda" || std::ranges::any_of(engine::UsableDevices(), is_first_gpu)) {
    return absl::OkStatus();
  }
  return Error(Reason::kOptionUnsupported, engine::BuiltWithCuda()
                                               ? "--device cuda: the CUDA driver shows no GPU here"
                                               : "--device cuda: this program was built without CUDA");
}

absl::StatusOr<v1::ExportSpec> ToExportSpec(const ExportFlags& flags, bool local) {
  SLIPWAY_RETURN_IF_ERROR(CheckSupported(flags));
  v1::ExportSpec spec;
  spec.set_checkpoint(flags.checkpoint);
  spec.set_hf_config(flags.hf_config);
  spec.set_publish(flags.publish);
  spec.set_adapter(flags.adapter);
  spec.set_adapter_only(flags.adapter_only);
  spec.set_ranges(flags.ranges);
  if (local) {
    SLIPWAY_ASSIGN_OR_RETURN(*spec.mutable_checkpoint(), AbsolutePath(flags.checkpoint));
    SLIPWAY_ASSIGN_OR_RETURN(*spec.mutable_hf_config(), AbsolutePath(flags.hf_config));
    SLIPWAY_ASSIGN_OR_RETURN(*spec.mutable_publish(), AbsolutePath(flags.publish));
    SLIPWAY_ASSIGN_OR_RETURN(*spec.mutable_adapter(), AbsolutePath(flags.adapter));
    SLIPWAY_ASSIGN_OR_RETURN(*spec.mutable_ranges(), AbsolutePath(flags.ranges));
  }
  for (const std::string& target : flags.targets) {
    spec.add_targets(target);
  }
  spec.set_quantization(flags.quantization);
  spec.set_recipe(flags.recipe);
  spec.set_kv_cache(flags.kv_cache);
  spec.set_config_form(flags.config_form);
  spec.set_scale_search(flags.scale_search);
  spec.set_tensor_parallel(flags.tensor_parallel);
  spec.set_pipeline_parallel(flags.pipeline_parallel);
  spec.set_expert_parallel(flags.expert_parallel);
  spec.set_tensorrt_llm_version(flags.tensorrt_llm_version);
  spec.set_architecture(flags.architecture);
  if (flags.iteration) {
    spec.set_iteration(*flags.iteration);
  }
  spec.set_dtype(flags.dtype);
  spec.set_digest(flags.digest);
  if (!flags.max_shard_size.empty()) {
    SLIPWAY_ASSIGN_OR_RETURN(const std::int64_t shard_bytes, ParseByteSize(flags.max_shard_size));
    spec.set_max_shard_bytes(shard_bytes);
  }
  spec.set_overwrite(flags.overwrite);
  spec.set_allow_custom_code(flags.allow_custom_code);
  return spec;
}

absl::StatusOr<engine::ExportOptions> ToExportOptions(const ExportFlags& flags) {
  SLIPWAY_RETURN_IF_ERROR(CheckSupported(flags));
  engine::ExportOptions options;
  SLIPWAY_ASSIGN_OR_RETURN(options.checkpoint, AbsolutePath(flags.checkpoint));
  SLIPWAY_ASSIGN_OR_RETURN(options.hf_config, AbsolutePath(flags.hf_config));
  if (!flags.targets.empty()) {
    options.targets = flags.targets;
  }
  options.quantization = flags.quantization;
  options.recipe = flags.recipe;
  options.kv_cache = flags.kv_cache;
  options.config_form = flags.config_form;
  options.scale_search = flags.scale_search;
  SLIPWAY_ASSIGN_OR_RETURN(options.ranges, AbsolutePath(flags.ranges));
  options.tensor_parallel = flags.tensor_parallel;
  options.pipeline_parallel = flags.pipeline_parallel;
  options.expert_parallel = flags.expert_parallel;
  options.tensorrt_llm_version = flags.tensorrt_llm_version;
  options.architecture = flags.architecture;
  options.iteration = flags.iteration;
  if (!flags.dtype.empty()) {
    options.dtype = flags.dtype == "bf16"   ? engine::DType::kBF16
                    : flags.dtype == "fp16" ? engine::DType::kF16
                                            : engine::DType::kF32;
  }
  options.digest = DigestAlgorithmFromName(flags.digest).value_or(DigestAlgorithm::kSha256);
  if (!flags.max_shard_size.empty()) {
    SLIPWAY_ASSIGN_OR_RETURN(options.maximum_shard_bytes, ParseByteSize(flags.max_shard_size));
  }
  options.allow_custom_code = flags.allow_custom_code;
  SLIPWAY_ASSIGN_OR_RETURN(options.adapter, AbsolutePath(flags.adapter));
  options.adapter_only = flags.adapter_only;
  return options;
}

}  // namespace slipway
