//===- RoutingRecorder.cpp - Which experts the tokens of a text chose -------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#include "runtime/evaluation/RoutingRecorder.h"

#include "runtime/executor/LaunchObserver.h"

#include <algorithm>
#include <charconv>
#include <cstring>

namespace sluice {
namespace {

class RouterObserver : public LaunchObserver {
public:
  RouterObserver(int layers, int topK) : topK(topK), ids(layers) {}

  void launched(const ObservedLaunch &launch) override {
    if (launch.family != "router")
      return;
    constexpr std::string_view before = "layers.";
    std::string_view label = launch.label;
    size_t layer = ids.size();
    if (label.starts_with(before))
      std::from_chars(label.data() + before.size(), label.data() + label.size(), layer);
    for (const ObservedArg &arg : launch.args) {
      if (arg.name != "ids" || layer >= ids.size())
        continue;
      size_t pairs = std::min(arg.data.size() / sizeof(int32_t),
                              static_cast<size_t>(launch.step.numTokens) * topK);
      ids[layer].resize(pairs);
      std::memcpy(ids[layer].data(), arg.data.data(), pairs * sizeof(int32_t));
    }
  }

  int topK;
  std::vector<std::vector<int32_t>> ids; ///< [layers] of the last step, [tokens, topK]
};

/// Takes the observer off again however the recording ends.
struct Observed {
  Observed(Engine &engine, LaunchObserver &observer) : engine(engine) {
    status = observeLaunches(engine, &observer);
  }
  ~Observed() {
    if (status.isOk())
      status = observeLaunches(engine, nullptr);
  }
  Engine &engine;
  Status status;
};

} // namespace

Result<Profile> recordRouting(Engine &engine, const std::vector<RecordedText> &texts, int window,
                              const std::function<void(int64_t, int64_t)> &progress) {
  const EngineInfo &info = engine.info();
  if (info.numExperts < 1 || engine.numMoeLayers() < 1)
    return unsupported(info.name + " has no experts; there is no routing to record");
  if (info.dp > 1)
    return unsupported("the plan's attention is data parallel, so that no rank routes all tokens; "
                       "record on a plan with --dp=1");
  if (texts.empty() || window < 1)
    return invalidArgument("no text to record; give at least one file with tokens");
  window = std::min(window, info.maxSeqLen);

  Profile profile;
  profile.model = info.name;
  profile.layers = info.numLayers;
  profile.experts = info.numExperts;
  profile.topK = info.topK;
  RouterObserver observer(info.numLayers, info.topK);
  Observed observed(engine, observer);
  SLUICE_RETURN_IF_ERROR(observed.status);
  int64_t total = 0, done = 0;
  for (const RecordedText &text : texts)
    total += static_cast<int64_t>(text.tokens.size());

  for (const RecordedText &text : texts) {
    auto domain = std::find_if(profile.domains.begin(), profile.domains.end(),
                               [&](const ProfileDomain &d) { return d.name == text.domain; });
    if (domain == profile.domains.end())
      domain = profile.domains.insert(profile.domains.end(), {text.domain, {}});
    size_t base = profile.counts.size();
    profile.counts.resize(base + static_cast<size_t>(info.numLayers) * info.numExperts, 0.0);
    ++profile.windows;
    for (size_t begin = 0; begin < text.tokens.size(); begin += static_cast<size_t>(window)) {
      std::span<const int32_t> part(text.tokens.data() + begin,
                                    std::min<size_t>(window, text.tokens.size() - begin));
      SLUICE_ASSIGN_OR_RETURN(SequenceId sequence, engine.createSequence());
      Status status;
      while (status.isOk() && !part.empty()) {
        StepEntry entry;
        entry.sequence = sequence;
        entry.tokens = part.subspan(0, std::min<size_t>(part.size(), info.maxBatchTokens));
        entry.logitRows = 0;
        StepOutput output;
        for (std::vector<int32_t> &ids : observer.ids)
          ids.clear();
        status = engine.step({&entry, 1}, {&output, 1});
        if (!status.isOk())
          break;
        size_t tokens = entry.tokens.size();
        for (size_t t = 0; t < tokens; ++t)
          for (int layer = 0; layer < info.numLayers; ++layer) {
            const std::vector<int32_t> &ids = observer.ids[layer];
            for (int k = 0; k < info.topK; ++k) {
              size_t at = t * info.topK + k;
              bool known = at < ids.size() && ids[at] >= 0 && ids[at] < info.numExperts;
              domain->ids.push_back(known ? static_cast<uint16_t>(ids[at]) : kNoExpert);
              if (known)
                profile.counts[base + static_cast<size_t>(layer) * info.numExperts + ids[at]] += 1;
            }
          }
        part = part.subspan(tokens);
        done += static_cast<int64_t>(tokens);
        if (progress)
          progress(done, total);
      }
      engine.releaseSequence(sequence);
      SLUICE_RETURN_IF_ERROR(status);
    }
  }
  if (done == 0)
    return invalidArgument("the texts hold no tokens; give at least one");
  SLUICE_RETURN_IF_ERROR(checkProfile(profile, "recorded profile"));
  return profile;
}

} // namespace sluice
