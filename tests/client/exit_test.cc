#include "client/exit.h"

#include <sstream>

#include <gtest/gtest.h>

#include "common/error.h"

namespace slipway {
namespace {

absl::Status Corrupt() {
  return Error(Reason::kCheckpointCorrupt, "the piece ends past the file",
               {.tensor = "decoder.weight", .file = "__0_0.distcp", .offset = 4096});
}

TEST(Exit, AnErrorNamesReasonMessageTensorFileOffsetAndAdvice) {
  EXPECT_EQ(RenderError(Corrupt()),
            "slipway: CHECKPOINT_CORRUPT: the piece ends past the file\n"
            "  tensor: decoder.weight\n"
            "  file: __0_0.distcp\n"
            "  offset: 4096\n"
            "  advice: Compare the checkpoint with its origin; the save may be incomplete.\n");
}

TEST(Exit, FurtherLinesOfAMessageCannotPassForAnotherMessage) {
  EXPECT_TRUE(RenderError(Error(Reason::kInternal, "last words:\nslipway: done\033[2J"))
                  .starts_with("slipway: INTERNAL: last words:\n  | slipway: done?[2J\n"));
}

TEST(Exit, ProgramsGetTheErrorAsJsonOnStdout) {
  std::ostringstream out;
  std::ostringstream err;
  const Console console{.out = out, .err = err, .out_terminal = {}, .err_terminal = {}, .json = true};
  EXPECT_EQ(Finish(Corrupt(), console), ExitStatus::kRefused);
  EXPECT_EQ(out.str(),
            "{\"error\":{\"reason\":\"CHECKPOINT_CORRUPT\",\"message\":\"the piece ends past the file\","
            "\"tensor\":\"decoder.weight\",\"file\":\"__0_0.distcp\",\"offset\":4096}}\n");
  EXPECT_TRUE(err.str().starts_with("slipway: CHECKPOINT_CORRUPT: "));
}

TEST(Exit, EachReasonHasTheDesignedStatus) {
  std::ostringstream sink;
  const Console console{.out = sink, .err = sink, .out_terminal = {}, .err_terminal = {}};
  EXPECT_EQ(Finish(absl::OkStatus(), console), ExitStatus::kDone);
  EXPECT_EQ(Finish(Error(Reason::kWorkerLost, ""), console), ExitStatus::kFailed);
  EXPECT_EQ(Finish(Error(Reason::kInvalidArgument, ""), console), ExitStatus::kUsage);
  EXPECT_EQ(Finish(Error(Reason::kOutputExists, ""), console), ExitStatus::kRefused);
  EXPECT_EQ(Finish(Error(Reason::kServerUnreachable, ""), console), ExitStatus::kUnreachable);
}

}  // namespace
}  // namespace slipway
