// Every request that no placement can meet, and profiles that are not of this model.
//
// RUN: not sluice-opt --sluice-place-experts=groups=9 %s 2>&1 | FileCheck %s --check-prefix=GROUPS
// RUN: not sluice-opt --sluice-place-experts=groups=-1 %s 2>&1 | FileCheck %s --check-prefix=NEGATIVE
// RUN: not sluice-opt '--sluice-place-experts=groups=2 slots=7' %s 2>&1 | FileCheck %s --check-prefix=FEW
// RUN: not sluice-opt '--sluice-place-experts=groups=2 slots=17' %s 2>&1 | FileCheck %s --check-prefix=MANY
// RUN: not sluice-opt --sluice-place-experts=phase=both %s 2>&1 | FileCheck %s --check-prefix=PHASE
// RUN: not sluice-opt --sluice-place-experts=profiles=%t.none %s 2>&1 | FileCheck %s --check-prefix=MISSING
// RUN: echo '{"logical_count": [[1,2,3]]}' > %t.three
// RUN: not sluice-opt --sluice-place-experts=profiles=%t.three %s 2>&1 | FileCheck %s --check-prefix=OTHER
// RUN: echo '{"logical_count": [[1,2,3,4,5,6,7,-8]]}' > %t.negative
// RUN: not sluice-opt --sluice-place-experts=profiles=%t.negative %s 2>&1 | FileCheck %s --check-prefix=COUNT
//
// GROUPS: groups = 9 exceeds the number of experts 8; every group must hold at least one
// NEGATIVE: groups = -1 and slots = 8 must be positive
// FEW: slots = 7 is below the number of experts 8; every expert needs a slot
// MANY: slots = 17 exceeds experts x groups = 16; a second copy of an expert in one group balances nothing
// PHASE: phase = "both": known are prefill and decode
// MISSING: cannot place experts by profile: {{.*}}.none
// OTHER: profile {{.*}}.three has 1 layers of 3 experts, and this is layer 0 with 8 experts; the profile belongs to another model
// COUNT: cannot place experts by profile: {{.*}}layer 0, expert 7: the count is negative

moe.weight @gate : tensor<8x16x32xbf16> = #moe.stack<"e.{}.w1" x 8 in ["m"] : tensor<8x16x32xbf16>>
moe.weight @down : tensor<8x32x16xbf16> = #moe.stack<"e.{}.w2" x 8 in ["m"] : tensor<8x32x16xbf16>>

func.func @step(%x: tensor<?x32xf32>, %ids: tensor<?x2xi32>, %w: tensor<?x2xf32>) -> tensor<?x32xf32> {
  %y = moe.experts %x, %ids, %w gate @gate up @gate down @down activation <silu>
       : tensor<?x32xf32>, tensor<?x2xi32>, tensor<?x2xf32> -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}
