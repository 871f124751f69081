//===- AssignSlots.cpp - Choice of replicas and order of one group's pairs --===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The choice is the placement library's (ReplicaRouter.h); what remains is the counting sort of the
// pairs that fell to this group, stable like the router's. Serial for the same reason as there.
//
//===------------------------------------------------------------------------===//
#include "runtime/artifact/StepAbi.h"
#include "runtime/device/host/Kernels.h"
#include "runtime/placement/ReplicaRouter.h"

#include <algorithm>

namespace sluice::host {
namespace {

class AssignSlotsKernel final : public HostKernel {
public:
  AssignSlotsKernel(const abi::AssignSlotsParams &params, const abi::StepDims &dims,
                    const Placement &placement)
      : router(placement), topK(params.topK), maxRows(dims.tokens),
        firstSlot(placement.deviceBegin[size_t(params.group)]),
        ownSlots(placement.deviceBegin[size_t(params.group) + 1] - firstSlot) {}

  void run(void *const *args, ThreadPool &) const override {
    const auto &header = *static_cast<const abi::StepHeader *>(args[0]);
    const auto *ids = static_cast<const int32_t *>(args[1]);
    auto *offsets = static_cast<int32_t *>(args[2]);
    auto *order = static_cast<int32_t *>(args[3]);
    auto *inverse = static_cast<int32_t *>(args[4]);
    auto *scratch = static_cast<int32_t *>(args[5]);
    const int64_t pairs = std::min<int64_t>(header.numTokens, maxRows) * topK;
    int32_t *slotOfPair = scratch, *workspace = scratch + maxRows * topK;
    int32_t *cursor = workspace + router.workspaceSize();

    router.assign({ids, size_t(pairs)}, header.numTokens == header.numSeqs,
                  {slotOfPair, size_t(pairs)}, {workspace, router.workspaceSize()});
    auto slotOf = [&](int64_t pair) { return slotOfPair[pair] - firstSlot; };
    auto isOwn = [&](int64_t pair) { return slotOf(pair) >= 0 && slotOf(pair) < ownSlots; };
    std::fill_n(cursor, ownSlots, 0);
    for (int64_t pair = 0; pair < pairs; ++pair)
      if (isOwn(pair))
        ++cursor[slotOf(pair)];
    int32_t next = 0;
    for (int32_t slot = 0; slot < ownSlots; ++slot) {
      offsets[slot] = next;
      next += std::exchange(cursor[slot], next);
    }
    offsets[ownSlots] = next;
    for (int64_t pair = 0; pair < pairs; ++pair) {
      inverse[pair] = isOwn(pair) ? cursor[slotOf(pair)]++ : -1;
      if (inverse[pair] >= 0)
        order[inverse[pair]] = int32_t(pair);
    }
  }

private:
  ReplicaRouter router;
  int64_t topK, maxRows;
  int32_t firstSlot, ownSlots;
};

} // namespace

KernelResult createAssignSlots(const abi::AssignSlotsParams &params, const abi::StepDims &dims) {
  SLUICE_ASSIGN_OR_RETURN(auto groups, abi::expertsOfGroups(params));
  Placement placement;
  placement.experts = int(params.experts);
  placement.deviceBegin = {0};
  for (const std::vector<int32_t> &group : groups) {
    placement.slotExpert.insert(placement.slotExpert.end(), group.begin(), group.end());
    placement.deviceBegin.push_back(int(placement.slotExpert.size()));
  }
  return std::make_unique<AssignSlotsKernel>(params, dims, placement);
}

} // namespace sluice::host
