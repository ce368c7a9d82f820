#include "client/table.h"

#include <gtest/gtest.h>

namespace slipway {
namespace {

Table Sample() {
  Table table({{.title = "NAME"}, {.title = "SIZE", .align_right = true}, {.title = "PATH", .minimum = 6}});
  table.AddRow({"exports/1", "2.97 GB", "/checkpoints/llama"});
  table.AddRow({"exports/22", "8 B", "/x"});
  return table;
}

TEST(Table, ColumnsAreAlignedAndLinesHaveNoTrailingSpaces) {
  EXPECT_EQ(Sample().Render(0),
            "NAME           SIZE  PATH\n"
            "exports/1   2.97 GB  /checkpoints/llama\n"
            "exports/22      8 B  /x\n");
}

TEST(Table, ATableThatIsTooWideIsCutWhereItMayBe) {
  EXPECT_EQ(Sample().Render(30),
            "NAME           SIZE  PATH\n"
            "exports/1   2.97 GB  /checkpo…\n"
            "exports/22      8 B  /x\n");
}

TEST(Table, AColumnKeepsItsMinimum) {
  EXPECT_EQ(Sample().Render(5),
            "NAME           SIZE  PATH\n"
            "exports/1   2.97 GB  /chec…\n"
            "exports/22      8 B  /x\n");
}

TEST(Table, CellsAreMadePrintable) {
  Table table({{.title = "N"}});
  table.AddRow({"a\033b"});
  EXPECT_EQ(table.Render(0), "N\na?b\n");
}

TEST(Pairs, EmptyValuesAreLeftOut) {
  EXPECT_EQ(RenderPairs({{"model", "llama"}, {"a long name", ""}, {"file", "x"}}),
            "model  llama\n"
            "file   x\n");
}

TEST(Pairs, ValuesThatAreTooLongGoOnBelowBrokenAtSpaces) {
  EXPECT_EQ(RenderPairs({{"note", "one two three four five six seven eight"}, {"a", "b"}}, 30),
            "note  one two three four five\n"
            "      six seven eight\n"
            "a     b\n");
  EXPECT_EQ(RenderPairs({{"note", "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz x"}}, 1),
            "note  abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz\n"
            "      x\n");
}

}  // namespace
}  // namespace slipway
