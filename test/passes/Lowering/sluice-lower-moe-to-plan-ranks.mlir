// What ranks of two data parallel groups exchange, and the kernels around it: those over gathered rows
// read the counts of all groups.
//
// RUN: sluice-opt --sluice-lower-moe-to-plan --sluice-pack-memory %s | FileCheck %s

module attributes {
  moe.model = {name = "tiny", family = "mixtral", vocab_size = 64 : i64, hidden_size = 32 : i64,
               num_layers = 1 : i64, num_experts = 4 : i64, top_k = 2 : i64, max_position = 64 : i64,
               eos_token_ids = array<i64: 2>, bos_token_id = 1 : i64,
               total_parameters = 1000 : i64, active_parameters = 500 : i64},
  moe.limits = {max_batch_tokens = 8 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64,
                max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 16 : i64},
  moe.parallel = {ranks = 2 : i64, tp = 1 : i64, ep = 2 : i64, dp = 2 : i64, attention_tp = 1 : i64},
  moe.target = "host", plan.buckets = array<i64: 8>
} {

moe.weight @embed : tensor<64x32xbf16> = #moe.source<"e" in "f" : tensor<64x32xbf16>>
moe.weight @layers.0.router : tensor<4x32xf32> = #moe.source<"r" in "f" : tensor<4x32xf32>>
moe.weight @layers.0.experts.gate_up : tensor<2x2x16x32xbf16> = #moe.source<"gu" in "f" : tensor<2x2x16x32xbf16>>
moe.weight @layers.0.experts.down : tensor<2x32x16xbf16> = #moe.source<"d" in "f" : tensor<2x32x16xbf16>>

// CHECK: plan.kernel @assign_slots_0 = "assign_slots"(experts = 4, top_k = 2, group = 1, slots = "0,1;2,3")
// CHECK: plan.kernel @experts_gate_up_0 = "experts_gate_up"(experts = 2, top_k = 2,

// CHECK-LABEL: plan.rank @rank1 number 1
// CHECK: plan.io @header bytes 32 at [[HEADER:[0-9]+]]
// CHECK: plan.io @global_header bytes 32 at [[ALL:[0-9]+]]
// CHECK: plan.io @group_tokens bytes 8 at [[TOKENS:[0-9]+]]
// CHECK: plan.io @group_logit_rows bytes 8 at [[ROWS:[0-9]+]]
// CHECK: plan.cmd.launch @embedding_0(io[[[HEADER]] for 32],
// CHECK-NEXT: plan.cmd.collective all_gather arena[[[X:[0-9]+]] for 1024] into arena[[[G:[0-9]+]] for 1024] of f32 among [0, 1] rows io[[[TOKENS]] for 8] width 32 stream 0 label "gather"
// CHECK-NEXT: plan.cmd.launch @router_0(io[[[ALL]] for 32], arena[[[G]] for 1024],
// CHECK-NEXT: plan.cmd.launch @assign_slots_0(io[[[ALL]] for 32],
// CHECK-NEXT: plan.cmd.launch @experts_gate_up_0(io[[[ALL]] for 32],
// CHECK-NEXT: plan.cmd.launch @experts_down_0(io[[[ALL]] for 32],
// CHECK-NEXT: plan.cmd.collective reduce_scatter {{.*}} among [0, 1] rows io[[[TOKENS]] for 8] width 32
// Sums take the place of what they sum up.
// CHECK-NEXT: plan.cmd.collective all_reduce arena[[[S:[0-9]+]] for 1024] into arena[[[S]] for 1024] of f32 among [0, 1] stream 0
// CHECK-NEXT: plan.cmd.launch @gather_rows_0(io[[[HEADER]] for 32],
// CHECK-NEXT: plan.cmd.collective all_gather {{.*}} among [0, 1] rows io[[[ROWS]] for 8] width 32
// CHECK-NEXT: plan.cmd.launch @linear_0(io[[[ALL]] for 32],
// CHECK-NEXT: plan.cmd.launch @sample_0(io[[[ALL]] for 32],
func.func @rank1(%ids: tensor<?xi32>, %b: !moe.batch) -> (tensor<?x64xf32>, tensor<?xi32>) attributes {moe.rank = 1 : i64} {
  %x = moe.embedding %ids table @embed : tensor<?xi32> -> tensor<?x32xf32>
  %g = moe.all_gather %x ranks [0, 1] : tensor<?x32xf32> -> tensor<?x32xf32>
  %i, %w, %unused = moe.router %g weight @layers.0.router routing <softmax, top_k = 2> : tensor<?x32xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %d = moe.assign_slots %i group 1 of [array<i64: 0, 1>, array<i64: 2, 3>] : tensor<?x2xi32>
  %h = moe.experts_gate_up %g, %w by %d weight @layers.0.experts.gate_up activation <silu> : tensor<?x32xf32>, tensor<?x2xf32> -> tensor<?x16xf32>
  %e = moe.experts_down %h, %w by %d weight @layers.0.experts.down : tensor<?x16xf32>, tensor<?x2xf32> -> tensor<?x32xf32>
  %p = moe.reduce_scatter %e ranks [0, 1] : tensor<?x32xf32> -> tensor<?x32xf32>
  %s = moe.all_reduce %p ranks [0, 1] : tensor<?x32xf32>
  %r = moe.select_rows %s of %b : tensor<?x32xf32> -> tensor<?x32xf32>
  %a = moe.all_gather %r ranks [0, 1] : tensor<?x32xf32> -> tensor<?x32xf32>
  %l = moe.linear %a weight @embed : tensor<?x32xf32> -> tensor<?x64xf32>
  %t = moe.sample %l by %b : tensor<?x64xf32> -> tensor<?xi32>
  return %l, %t : tensor<?x64xf32>, tensor<?xi32>
}
}
