//===- Profile.h - How often tokens chose which expert ----------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A profile is what placement, replication and the cost model know of the traffic: counts of tokens
// per expert in one or more windows of time, and, where somebody recorded them, the experts of
// every single token per kind of text. Windows are kept apart because their spread says how far the
// next hour may differ, which one sum cannot.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_PROFILE_PROFILE_H
#define SLUICE_RUNTIME_PROFILE_PROFILE_H

#include "sluice/status.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace sluice {

/// What stands in place of an expert id in a layer that routed nothing (a dense layer).
inline constexpr uint16_t kNoExpert = 0xffff;

/// The experts that tokens of one kind of text chose.
struct ProfileDomain {
  std::string name;
  std::vector<uint16_t> ids; ///< [tokens, layers, topK]; kNoExpert in dense layers

  bool operator==(const ProfileDomain &) const = default;
};

/// Counts of one model. A value type; const access is thread-safe.
struct Profile {
  std::string model; ///< what the recorder called the model; empty when unknown
  int windows = 0;
  int layers = 0; ///< decoder layers; a dense one has counts of zero
  int experts = 0;
  int topK = 0;                       ///< experts per token; 0 when unknown
  std::vector<double> counts;         ///< [windows, layers, experts] tokens, finite, not negative
  std::vector<ProfileDomain> domains; ///< may be empty; need topK

  std::span<const double> at(int window, int layer) const {
    return {counts.data() + (static_cast<size_t>(window) * layers + layer) * experts,
            static_cast<size_t>(experts)};
  }
  /// [experts] the counts of a layer summed over the windows.
  std::vector<double> total(int layer) const;
  /// True when no window routed a token in that layer.
  bool isDense(int layer) const;
  int64_t tokens(const ProfileDomain &domain) const {
    return static_cast<int64_t>(domain.ids.size()) / layers / topK;
  }

  bool operator==(const Profile &) const = default;
};

/// kDataCorrupt unless the sizes are positive, experts are fewer than kNoExpert and the counts fit
/// in a gigabyte: beyond that a header lies. To be asked before memory is taken. Errors begin with
/// `name`.
Status checkProfileSize(int64_t windows, int64_t layers, int64_t experts, const std::string &name);

/// kDataCorrupt unless sizes are positive and agree, counts are finite and not negative, and ids
/// are experts of the model. Errors begin with `name`.
Status checkProfile(const Profile &profile, const std::string &name);

/// kInvalidArgument "b is of another model than a: ..." unless both have the same layers, experts
/// and, where both know them, top_k and model name.
Status checkSameModel(const Profile &a, const std::string &nameA, const Profile &b,
                      const std::string &nameB);

/// One profile with the windows and domains of all, in their order; domains of one name are joined.
/// Same-model errors as above; `names` has one entry per profile.
Result<Profile> mergeProfiles(std::span<const Profile> profiles,
                              std::span<const std::string> names);

/// One layer's skew.
struct LayerSkew {
  int layer = 0;
  double heaviest = 1;   ///< load of the heaviest expert over the mean
  double topTenth = 0.1; ///< share of the tokens that went to the busiest tenth of the experts
  double entropy = 1;    ///< of the shares, over that of equal shares; 1 = even
  int unused = 0;        ///< experts without a token
  /// Expected distinct experts of a batch of 1, 8, 32, 128 and 512 tokens; empty without topK.
  /// From ids by drawing without order: sum over experts of 1 - (1 - p)^batch.
  std::vector<double> distinct;
};
inline constexpr int kDistinctBatches[] = {1, 8, 32, 128, 512};

/// The skew of every layer that is not dense.
std::vector<LayerSkew> inspectProfile(const Profile &profile);

/// How far two profiles of one model lie apart.
struct ProfileDrift {
  struct Layer {
    int layer = 0;
    double totalVariation = 0; ///< half the sum of the differences of shares: 0 same, 1 disjoint
    double correlation = 1;    ///< of the shares over the experts
    /// Max/mean device load under the second profile of the placement made for the first, and of
    /// the one made for the second itself.
    double carriedOver = 1, refitted = 1;
  };
  std::vector<Layer> layers; ///< those that are dense in neither
  double totalVariation = 0, correlation = 1, carriedOver = 1, refitted = 1; ///< means
};

/// Compares `from` with `to`, placing on `devices` with `slots` slots. Errors: another model, and
/// those of PlacementSolver::solve.
Result<ProfileDrift> compareProfiles(const Profile &from, const Profile &to, int devices,
                                     int slots);

} // namespace sluice

#endif // SLUICE_RUNTIME_PROFILE_PROFILE_H
