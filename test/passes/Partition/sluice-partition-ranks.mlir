// One attention and one MoE layer, grouped queries, a shared expert, a latent attention.
//
// RUN: sed "s/ placement {.*}//" %s > %t.one
// RUN: sluice-opt --sluice-parallelize-model --sluice-partition-ranks %t.one | FileCheck %s --check-prefix=ONE
// RUN: sluice-opt --sluice-parallelize-model="ranks=4 ep=2" --sluice-partition-ranks %s | FileCheck %s --check-prefix=FOUR
// RUN: sluice-opt --sluice-parallelize-model="ranks=4 ep=2 dp=2" --sluice-partition-ranks %s | FileCheck %s --check-prefix=DATA

// ONE: moe.parallel = {attention_tp = 1 : i64, dp = 1 : i64, ep = 1 : i64, ranks = 1 : i64, tp = 1 : i64}
// FOUR: moe.parallel = {attention_tp = 4 : i64, dp = 1 : i64, ep = 2 : i64, ranks = 4 : i64, tp = 2 : i64}
// DATA: moe.limits = {{.*}}num_pages = 12 : i64
// DATA-SAME: moe.parallel = {attention_tp = 2 : i64, dp = 2 : i64, ep = 2 : i64, ranks = 4 : i64, tp = 2 : i64}
module attributes {moe.limits = {max_batch_tokens = 16 : i64, max_logit_rows = 16 : i64, max_seq_len = 64 : i64, max_seqs = 4 : i64, num_pages = 24 : i64, page_size = 16 : i64}} {

// Rows are [4 query heads | 2 key heads | 2 value heads] of 8. With four ranks, two share a head of
// keys and values; with two, each has one and its two query heads.
// FOUR: moe.weight @attn.qkv_shard1of4 : tensor<24x32xf32> = #moe.concat<axis = 0, [#moe.slice<#moe.source<"qkv" in "m" : tensor<64x32xf32>>, axis = 0, begin = 8, size = 8>, #moe.slice<{{.*}}, axis = 0, begin = 32, size = 8>, #moe.slice<{{.*}}, axis = 0, begin = 48, size = 8>]>
// FOUR: moe.weight @attn.qkv_shard2of4 : {{.*}} begin = 16, size = 8>, {{.*}} begin = 40, size = 8>, {{.*}} begin = 56, size = 8>]>
// DATA: moe.weight @attn.qkv_shard0of2 : tensor<32x32xf32> = {{.*}} begin = 0, size = 16>, {{.*}} begin = 32, size = 8>, {{.*}} begin = 48, size = 8>]>
moe.weight @attn.qkv : tensor<64x32xf32> = #moe.source<"qkv" in "m" : tensor<64x32xf32>>
// FOUR: moe.weight @attn.o_shard3of4 : tensor<32x8xf32> = #moe.slice<{{.*}}, axis = 1, begin = 24, size = 8>
moe.weight @attn.o : tensor<32x32xf32> = #moe.source<"o" in "m" : tensor<32x32xf32>>
moe.weight @attn.o_bias : tensor<32xf32> = #moe.source<"ob" in "m" : tensor<32xf32>>
moe.weight @norm : tensor<32xf32> = #moe.source<"n" in "m" : tensor<32xf32>>
moe.weight @router : tensor<3x32xf32> = #moe.source<"router" in "m" : tensor<3x32xf32>>
// FOUR: moe.weight @gate_up_group0of2_shard0of2 : tensor<2x2x16x32xf32> = #moe.slice<#moe.take<#moe.source<"gu" in "m" : tensor<3x2x32x32xf32>>, [0, 1]>, axis = 2, begin = 0, size = 16>
// FOUR: moe.weight @gate_up_group1of2_shard1of2 : tensor<2x2x16x32xf32> = #moe.slice<#moe.take<{{.*}}, [2, 1]>, axis = 2, begin = 16, size = 16>
moe.weight @gate_up : tensor<3x2x32x32xf32> = #moe.source<"gu" in "m" : tensor<3x2x32x32xf32>>
moe.weight @down : tensor<3x32x32xf32> = #moe.source<"d" in "m" : tensor<3x32x32xf32>>
moe.weight @down_bias : tensor<3x32xf32> = #moe.source<"db" in "m" : tensor<3x32xf32>>
moe.weight @shared_gate_up : tensor<2x64x32xf32> = #moe.source<"sgu" in "m" : tensor<2x64x32xf32>>
moe.weight @shared_down : tensor<32x64xf32> = #moe.source<"sd" in "m" : tensor<32x64xf32>>
moe.weight @head : tensor<64x32xf32> = #moe.source<"head" in "m" : tensor<64x32xf32>>
// ONE: moe.kv_cache @kv heads 2
// FOUR: moe.kv_cache @kv_heads1 heads 1 key 8 value 8
// FOUR-NOT: moe.kv_cache @kv heads
moe.kv_cache @kv heads 2 key 8 value 8 : f32

// ONE-LABEL: func.func @rank0
// ONE-NOT: ranks
// ONE-NOT: assign_slots
// ONE: moe.linear %{{.*}} weight @attn.o bias @attn.o_bias
// ONE: moe.experts_down %{{.*}} weight @down bias @down_bias

// FOUR-LABEL: func.func @rank0
// FOUR: %[[Q:.*]] = moe.qkv %{{.*}} weight @attn.qkv_shard0of4 cache @kv_heads1 at %{{.*}} heads 1 : tensor<?x32xf32> -> tensor<?x8xf32>
// FOUR: moe.attention %[[Q]] cache @kv_heads1 at %{{.*}} heads 1 scale
// FOUR: %[[O:.*]] = moe.linear %{{.*}} weight @attn.o_shard0of4 bias @attn.o_bias
// FOUR-NEXT: %[[A:.*]] = moe.all_reduce %[[O]] ranks [0, 1, 2, 3]
// FOUR-NEXT: moe.residual_norm rms %{{.*}}, %[[A]]
// FOUR: %[[IDS:.*]], %{{.*}}, %{{.*}} = moe.router %{{.*}} weight @router routing <softmax, top_k = 2> :
// FOUR-NEXT: %[[D:.*]] = moe.assign_slots %[[IDS]] group 0 of [array<i64: 0, 1>, array<i64: 2, 1>]
// FOUR-NEXT: moe.experts_gate_up %{{.*}} by %[[D]] weight @gate_up_group0of2_shard0of2
// FOUR-NEXT: %[[E:.*]] = moe.experts_down %{{.*}} by %[[D]] weight @down_group0of2_shard0of2 bias @down_bias_group0of2_shard0of2
// FOUR-NEXT: moe.ffn_gate_up %{{.*}} weight @shared_gate_up_shard0of4 {{.*}} -> tensor<?x16xf32>
// FOUR-NEXT: %[[S:.*]] = moe.linear %{{.*}} weight @shared_down_shard0of4
// FOUR-NEXT: %[[Y:.*]] = moe.residual %[[E]], %[[S]]
// FOUR-NEXT: moe.all_reduce %[[Y]] ranks [0, 1, 2, 3]
// FOUR-LABEL: func.func @rank1
// FOUR: moe.linear %{{.*}} weight @attn.o_shard1of4 :
// FOUR: moe.experts_down %{{.*}} weight @down_group0of2_shard1of2 :
// FOUR-LABEL: func.func @rank2
// FOUR: moe.assign_slots %{{.*}} group 1 of
// FOUR: moe.experts_down %{{.*}} weight @down_group1of2_shard0of2 bias @down_bias_group1of2_shard0of2

// DATA-LABEL: func.func @rank1
// DATA: moe.linear %{{.*}} weight @attn.o_shard1of2 :
// DATA-NEXT: moe.all_reduce %{{.*}} ranks [0, 1]
// DATA-NEXT: %{{.*}}, %[[N:.*]] = moe.residual_norm
// DATA-NEXT: %[[X:.*]] = moe.all_gather %[[N]] ranks [1, 3]
// DATA-NEXT: moe.router %[[X]]
// DATA: moe.experts_gate_up %[[X]],
// DATA: moe.ffn_gate_up %[[X]]
// DATA: %[[Y:.*]] = moe.residual
// DATA-NEXT: %[[P:.*]] = moe.reduce_scatter %[[Y]] ranks [1, 3]
// DATA-NEXT: %[[R:.*]] = moe.all_reduce %[[P]] ranks [0, 1]
// DATA-NEXT: %[[SUM:.*]] = moe.residual %{{.*}}, %[[R]]
// DATA-NEXT: %[[SEL:.*]] = moe.select_rows %[[SUM]]
// DATA-NEXT: %[[ALL:.*]] = moe.all_gather %[[SEL]] ranks [1, 3]
// DATA-NEXT: moe.linear %[[ALL]] weight @head
func.func @step(%x: tensor<?x32xf32>, %batch: !moe.batch) -> tensor<?x64xf32> {
  %q = moe.qkv %x weight @attn.qkv cache @kv at %batch heads 4 : tensor<?x32xf32> -> tensor<?x32xf32>
  %a = moe.attention %q cache @kv at %batch heads 4 scale 0.5 : tensor<?x32xf32> -> tensor<?x32xf32>
  %o = moe.linear %a weight @attn.o bias @attn.o_bias : tensor<?x32xf32> -> tensor<?x32xf32>
  %h, %n = moe.residual_norm rms %x, %o weight @norm eps 1.0e-05 : tensor<?x32xf32>
  %ids, %w, %d = moe.router %n weight @router routing <softmax, top_k = 2> placement {slots = [array<i64: 0, 1>, array<i64: 2, -1, 1>]}
      : tensor<?x32xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %g = moe.experts_gate_up %n, %w by %d weight @gate_up activation <silu>
      : tensor<?x32xf32>, tensor<?x2xf32> -> tensor<?x32xf32>
  %e = moe.experts_down %g, %w by %d weight @down bias @down_bias
      : tensor<?x32xf32>, tensor<?x2xf32> -> tensor<?x32xf32>
  %sg = moe.ffn_gate_up %n weight @shared_gate_up activation <silu> : tensor<?x32xf32> -> tensor<?x64xf32>
  %s = moe.linear %sg weight @shared_down : tensor<?x64xf32> -> tensor<?x32xf32>
  %y = moe.residual %e, %s : tensor<?x32xf32>
  %out = moe.residual %h, %y : tensor<?x32xf32>
  %rows = moe.select_rows %out of %batch : tensor<?x32xf32> -> tensor<?x32xf32>
  %logits = moe.linear %rows weight @head : tensor<?x32xf32> -> tensor<?x64xf32>
  return %logits : tensor<?x64xf32>
}
}
