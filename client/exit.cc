#include "client/exit.h"

#include <string_view>

#include <fmt/format.h>

#include "client/terminal.h"
#include "common/error.h"

namespace slipway {

namespace {

// A message may quote several lines of a log: those after the first are marked, so that none can pass for another
// message of this program.
std::string RenderMessage(std::string_view message) {
  std::string text;
  while (true) {
    const std::string_view line = message.substr(0, message.find('\n'));
    text += Printable(line);
    if (line.size() == message.size()) {
      return text;
    }
    text += "\n  | ";
    message.remove_prefix(line.size() + 1);
  }
}

}  // namespace

std::string RenderError(const absl::Status& status) {
  const ReasonInfo& info = InfoOf(ReasonOf(status));
  const Where where = WhereOf(status);
  std::string text = fmt::format("slipway: {}: {}\n", info.name, RenderMessage(std::string(status.message())));
  if (!where.tensor.empty()) {
    text += fmt::format("  tensor: {}\n", Printable(where.tensor));
  }
  if (!where.file.empty()) {
    text += fmt::format("  file: {}\n", Printable(where.file));
  }
  if (where.offset) {
    text += fmt::format("  offset: {}\n", *where.offset);
  }
  return text + fmt::format("  advice: {}\n", info.advice);
}

nlohmann::ordered_json ErrorToJson(const absl::Status& status) {
  const Where where = WhereOf(status);
  nlohmann::ordered_json error{{"reason", std::string(InfoOf(ReasonOf(status)).name)},
                               {"message", std::string(status.message())}};
  if (!where.tensor.empty()) {
    error["tensor"] = where.tensor;
  }
  if (!where.file.empty()) {
    error["file"] = where.file;
  }
  if (where.offset) {
    error["offset"] = *where.offset;
  }
  return {{"error", std::move(error)}};
}

ExitStatus Finish(const absl::Status& status, const Console& console) {
  if (status.ok()) {
    return ExitStatus::kDone;
  }
  if (console.json) {
    console.PrintJson(ErrorToJson(status));
  }
  console.err << RenderError(status) << std::flush;
  return InfoOf(ReasonOf(status)).exit_status;
}

}  // namespace slipway
