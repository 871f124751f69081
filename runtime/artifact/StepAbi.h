//===- StepAbi.h - The interface between a step and its host program --------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// One step runs a ragged batch: tokens of several sequences, prefill chunks and single decode
// tokens mixed, flattened into one token dimension. What the host program hands to the plan and
// gets back lives in named buffers of the IO slab. All counts are read by kernels from the header
// at run time, so that one captured program serves every batch up to its bucket's size.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_ARTIFACT_STEPABI_H
#define SLUICE_RUNTIME_ARTIFACT_STEPABI_H

#include <cstdint>

namespace sluice::abi {

/// Names of the IO buffers. T = max_batch_tokens, S = max_seqs, R = max_logit_rows,
/// P = ceil(max_seq_len / page_size), V = vocabulary.
inline constexpr char kIoHeader[] = "header";           ///< StepHeader
inline constexpr char kIoTokenIds[] = "token_ids";      ///< int32 [T]
inline constexpr char kIoPositions[] = "positions";     ///< int32 [T], position in the sequence
inline constexpr char kIoTokenSeq[] = "token_seq";      ///< int32 [T], row of the step's sequences
inline constexpr char kIoSeqStarts[] = "seq_starts";    ///< int32 [S + 1], first token of each
inline constexpr char kIoKvLengths[] = "kv_lengths";    ///< int32 [S], length after this step
inline constexpr char kIoPageTable[] = "page_table";    ///< int32 [S, P], page numbers
inline constexpr char kIoLogitRows[] = "logit_rows";    ///< int32 [R], token of each logits row
inline constexpr char kIoSampling[] = "sampling";       ///< SamplingRow [R]
inline constexpr char kIoLogits[] = "logits";           ///< float32 [R, V], output
inline constexpr char kIoSampledIds[] = "sampled_ids";  ///< int32 [R], output
inline constexpr char kIoExpertCounts[] = "expert_counts"; ///< uint32 [MoE layers, E], accumulated

/// With more than one data parallel group, the buffers above describe the sequences of the rank's own
/// group; sampling, logits and sampled_ids hold the rows of all groups, in the order of groups, and
/// are equal on every rank. G = number of groups.
inline constexpr char kIoGlobalHeader[] = "global_header";       ///< StepHeader of all groups
inline constexpr char kIoGroupTokens[] = "group_tokens";         ///< int32 [G], tokens of each
inline constexpr char kIoGroupLogitRows[] = "group_logit_rows";  ///< int32 [G]

/// Live counts of one step.
struct StepHeader {
  int32_t numTokens = 0;
  int32_t numSeqs = 0;
  int32_t numLogitRows = 0;
  int32_t reserved[5] = {};
};
static_assert(sizeof(StepHeader) == 32);

/// How one row of logits is turned into a token. temperature == 0 means greedy (first of equals).
/// Randomness is a counter-based generator of (seed, counter): the same request gives the same
/// tokens whatever else is in the batch.
struct SamplingRow {
  float temperature = 0;
  float topP = 1;    ///< keep the smallest set of tokens whose probability reaches this; 1 = all
  int32_t topK = 0;  ///< keep this many most likely tokens; 0 = all
  int32_t reserved = 0;
  uint64_t seed = 0;
  uint64_t counter = 0;  ///< position of the sampled token in its sequence
};
static_assert(sizeof(SamplingRow) == 32);

} // namespace sluice::abi

#endif // SLUICE_RUNTIME_ARTIFACT_STEPABI_H
