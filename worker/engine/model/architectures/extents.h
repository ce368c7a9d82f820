// Extents of tensors and conditions of their presence, in terms of the configuration: words that tables are written in.
#pragma once

#include <cstdint>

#include "worker/engine/model/architecture.h"

namespace slipway::engine {

namespace extents {

using Configuration = ModelConfiguration;

inline constexpr Extent kOne = [](const Configuration&) { return std::int64_t{1}; };
inline constexpr Extent kHidden = [](const Configuration& c) { return c.hidden_size; };
inline constexpr Extent kFfn = [](const Configuration& c) { return c.ffn_hidden_size; };
inline constexpr Extent kTwiceFfn = [](const Configuration& c) { return 2 * c.ffn_hidden_size; };
inline constexpr Extent kVocabulary = [](const Configuration& c) { return c.vocabulary_size; };  // without padding
inline constexpr Extent kPositions = [](const Configuration& c) { return c.maximum_positions; };
inline constexpr Extent kHeads = [](const Configuration& c) { return c.attention_heads; };
inline constexpr Extent kHeadDimension = [](const Configuration& c) { return c.head_dimension; };
inline constexpr Extent kQueryRows = [](const Configuration& c) { return c.attention_heads * c.head_dimension; };
inline constexpr Extent kGatedQueryRows = [](const Configuration& c) {
  return 2 * c.attention_heads * c.head_dimension;
};
inline constexpr Extent kKeyValueRows = [](const Configuration& c) { return c.query_groups * c.head_dimension; };
inline constexpr Extent kQkvRows = [](const Configuration& c) {
  return (c.attention_heads + 2 * c.query_groups) * c.head_dimension;
};

inline constexpr Extent kExperts = [](const Configuration& c) { return c.experts.count.value_or(0); };
inline constexpr Extent kExpertFfn = [](const Configuration& c) {
  return c.experts.ffn_hidden_size.value_or(c.ffn_hidden_size);
};
inline constexpr Extent kTwiceExpertFfn = [](const Configuration& c) { return 2 * kExpertFfn(c); };
inline constexpr Extent kSharedFfn = [](const Configuration& c) {
  return c.experts.shared_ffn_hidden_size.value_or(0);
};

inline constexpr Extent kTwiceHidden = [](const Configuration& c) { return 2 * c.hidden_size; };
inline constexpr Extent kQueryRank = [](const Configuration& c) { return c.latent.query_rank.value_or(0); };
inline constexpr Extent kKeyValueRank = [](const Configuration& c) { return c.latent.key_value_rank.value_or(0); };
inline constexpr Extent kLatentQueryRows = [](const Configuration& c) {
  return c.attention_heads * (c.latent.nope_dimension.value_or(0) + c.latent.rope_dimension.value_or(0));
};
inline constexpr Extent kCompressedRows = [](const Configuration& c) {
  return c.latent.key_value_rank.value_or(0) + c.latent.rope_dimension.value_or(0);
};
inline constexpr Extent kLatentKeyValueRows = [](const Configuration& c) {
  return c.attention_heads * (c.latent.nope_dimension.value_or(0) + c.latent.value_dimension.value_or(0));
};
inline constexpr Extent kLatentValueRows = [](const Configuration& c) {
  return c.attention_heads * c.latent.value_dimension.value_or(0);
};
inline constexpr Extent kIndexerHeads = [](const Configuration& c) { return c.indexer.heads.value_or(0); };
inline constexpr Extent kIndexerDimension = [](const Configuration& c) { return c.indexer.head_dimension.value_or(0); };
inline constexpr Extent kIndexerRows = [](const Configuration& c) { return kIndexerHeads(c) * kIndexerDimension(c); };

}  // namespace extents

namespace presences {

inline constexpr Presence kAlways{};
inline constexpr Presence kIfStored{.if_stored = true};
inline constexpr Presence kIfQkvBias{[](const ModelConfiguration& c) { return c.qkv_bias; },
                                     "the configuration has no bias in the attention's projections"};
inline constexpr Presence kIfLinearBias{[](const ModelConfiguration& c) { return c.linear_bias; },
                                        "the configuration has no bias in linear layers"};
inline constexpr Presence kIfQkNorm{[](const ModelConfiguration& c) { return c.qk_norm; },
                                    "the configuration has no norms of queries and keys"};
inline constexpr Presence kUnlessTied{[](const ModelConfiguration& c) { return !c.tied_embeddings; },
                                      "the configuration ties the output layer to the embeddings"};
inline constexpr Presence kIfSharedExperts{
    [](const ModelConfiguration& c) { return c.experts.shared_ffn_hidden_size.has_value(); },
    "the configuration has no shared experts"};
inline constexpr Presence kIfQueryRank{[](const ModelConfiguration& c) { return c.latent.query_rank.has_value(); },
                                       "the configuration does not compress queries"};
inline constexpr Presence kUnlessQueryRank{[](const ModelConfiguration& c) { return !c.latent.query_rank; },
                                           "the configuration compresses queries"};

}  // namespace presences

}  // namespace slipway::engine
