#include "client/exit.h"

#include <fmt/format.h>

#include "client/terminal.h"
#include "common/error.h"

namespace slipway {

std::string RenderError(const absl::Status& status) {
  const ReasonInfo& info = InfoOf(ReasonOf(status));
  const Where where = WhereOf(status);
  std::string text = fmt::format("slipway: {}: {}\n", info.name, Printable(std::string(status.message())));
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
