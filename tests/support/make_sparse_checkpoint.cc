// Writes a torch_dist checkpoint of llama's shape, true or damaged, dense or sparse, or the metadata of one of
// DeepSeek-V3's: see --help.
#include <exception>
#include <iostream>
#include <string>

#include <CLI/CLI.hpp>

#include "tests/support/checkpoint_builder.h"
#include "tests/support/experts_checkpoint.h"

int main(int argc, char** argv) {
  using slipway::test::Fill;
  slipway::test::LlamaCheckpoint checkpoint;
  std::string output;
  std::string fill = "holes";
  std::string damage = "none";
  std::string kinds;
  for (const auto& kind : slipway::test::Damages()) {
    kinds += "\n  " + std::string(kind.name) + ": " + std::string(kind.summary);
  }
  slipway::test::ExpertsCheckpoint experts;
  bool is_trillion = false;
  bool has_small_trillion = false;
  CLI::App app("Writes a llama-shaped torch_dist checkpoint for tests.\nKinds of damage:" + kinds);
  app.add_flag("--trillion", is_trillion,
               "instead: a trillion parameters in Kimi-K2's shape, metadata and empty files only");
  app.add_flag("--trillion-pieces", has_small_trillion,
               "instead: as many tensors and pieces as that, but tiny ones, and whole");
  app.add_flag("--optimizer", experts.optimizer, "with --trillion: Adam's state too");
  app.add_option("OUTPUT", output, "directory to create")->required();
  app.add_option("--layers", checkpoint.layers)->capture_default_str();
  app.add_option("--hidden", checkpoint.hidden)->capture_default_str();
  app.add_option("--ffn", checkpoint.ffn)->capture_default_str();
  app.add_option("--heads", checkpoint.heads)->capture_default_str();
  app.add_option("--kv", checkpoint.kv_heads)->capture_default_str();
  app.add_option("--vocab", checkpoint.vocabulary)->capture_default_str();
  app.add_option("--tp", checkpoint.tensor_ranks)->capture_default_str();
  app.add_flag("--tied", checkpoint.tied, "no output layer");
  app.add_option("--fill", fill)->check(CLI::IsMember({"random", "holes"}))->capture_default_str();
  app.add_option("--damage", damage)->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const auto kind = slipway::test::DamageFromName(damage);
  if (!kind) {
    std::cerr << "unknown damage: " << damage << "\n";
    return 2;
  }
  checkpoint.damage = *kind;
  checkpoint.fill = fill == "random" ? Fill::kRandom : Fill::kHoles;
  try {
    if (has_small_trillion) {
      slipway::test::WriteExpertsCheckpoint(output, slipway::test::TinyExpertsOf(experts));
    } else if (is_trillion) {
      slipway::test::WriteExpertsCheckpoint(output, experts);
    } else {
      slipway::test::WriteLlamaCheckpoint(output, checkpoint);
    }
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
  return 0;
}
