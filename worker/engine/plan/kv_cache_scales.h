// Scales of keys and values in the KV cache.
#pragma once

#include "absl/status/status.h"
#include "worker/engine/plan/export_plan.h"
#include "worker/engine/quantize/format.h"
#include "worker/engine/quantize/ranges.h"

namespace slipway::engine {

// E4M3's largest value: a scale is amax / 448, for FP8 and NVFP4 alike.
inline constexpr float kKvCacheBound = 448;

// The ranges of an attention's keys and values, both there; of `ranges`, which may be null. OPTION_UNSUPPORTED, naming
// the attention and what to supply, where it has none.
absl::StatusOr<const AttentionRanges*> KvCacheRangesOf(const Ranges* ranges, const std::string& attention);

// Adds k_scale and v_scale, F32 = amax / kKvCacheBound, of every attention that has a k_proj and a v_proj
// (or one of both): ModelOpt's form under k_proj and v_proj, the others' under the attention's own name.
// OPTION_UNSUPPORTED for an attention without ranges, for a form that cannot say it, for a model that has none.
absl::Status AddKvCacheScales(KvCache kv_cache, ConfigForm form, const Ranges* ranges, ExportPlan& plan);

}  // namespace slipway::engine
