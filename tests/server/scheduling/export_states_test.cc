#include "server/scheduling/export_states.h"

#include <array>

#include <gtest/gtest.h>

namespace slipway::server {
namespace {

using enum ExportState;

constexpr std::array kStates = {kQueued,    kPlanning, kRunning,    kPublishing,
                                kSucceeded, kFailed,   kCancelling, kCancelled};
constexpr std::array kEvents = {ExportEvent::kPlanLeased, ExportEvent::kPlanReturned, ExportEvent::kPlanned,
                                ExportEvent::kShardsDone, ExportEvent::kPublished,    ExportEvent::kFailed,
                                ExportEvent::kCancel,     ExportEvent::kLetGo};

TEST(ExportStates, NothingLeavesAFinalState) {
  for (const ExportState state : kStates) {
    for (const ExportEvent event : kEvents) {
      EXPECT_TRUE(!IsFinal(state) || !NextState(state, event)) << NameOf(state) << " " << static_cast<int>(event);
    }
  }
}

TEST(ExportStates, EveryStateThatIsNotFinalHasAWayOut) {
  for (const ExportState state : kStates) {
    bool way_out = IsFinal(state);
    for (const ExportEvent event : kEvents) {
      way_out = way_out || NextState(state, event).has_value();
    }
    EXPECT_TRUE(way_out) << NameOf(state);
  }
}

TEST(ExportStates, TheStraightWayLeadsThroughPlanShardsAndPublication) {
  EXPECT_EQ(NextState(kQueued, ExportEvent::kPlanLeased), kPlanning);
  EXPECT_EQ(NextState(kPlanning, ExportEvent::kPlanned), kRunning);
  EXPECT_EQ(NextState(kRunning, ExportEvent::kShardsDone), kPublishing);
  EXPECT_EQ(NextState(kPublishing, ExportEvent::kPublished), kSucceeded);
}

TEST(ExportStates, PublicationCannotComeBeforeTheShards) {
  EXPECT_EQ(NextState(kRunning, ExportEvent::kPublished), std::nullopt);
  EXPECT_EQ(NextState(kQueued, ExportEvent::kShardsDone), std::nullopt);
}

TEST(ExportStates, AnArtifactThatIsPublishedDuringCancellationCounts) {
  EXPECT_EQ(NextState(kCancelling, ExportEvent::kPublished), kSucceeded);
  EXPECT_EQ(NextState(kCancelling, ExportEvent::kLetGo), kCancelled);
}

TEST(ExportStates, NamesLeadBackToTheirStates) {
  for (const ExportState state : kStates) {
    EXPECT_EQ(ExportStateFromName(NameOf(state)), state);
  }
  EXPECT_EQ(ExportStateFromName("succeeded"), std::nullopt);
}

}  // namespace
}  // namespace slipway::server
