// RUN: sluice-opt --sluice-pack-memory %s | FileCheck %s

module attributes {
  moe.limits = {max_batch_tokens = 32 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64,
                max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 16 : i64}
} {
plan.kernel @linear_0 = "linear"(n = 32, k = 32, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 32, multiplier = 1.0)
moe.weight @w : tensor<32x32xf32> = dense<1.0> : tensor<32x32xf32>

// Slabs are as large as the largest program needs; weights and caches begin on pages, buffers of
// a step at multiples of 256. The weights slab ends with its last weight, as its file does.
// CHECK-LABEL: plan.rank @rank0
// CHECK: plan.slab weights bytes 14336 align 4096
// CHECK: plan.slab kv bytes 12288 align 4096
// CHECK: plan.slab arena bytes 12288 align 256
// CHECK: plan.slab io bytes 768 align 256
plan.rank @rank0 number 0 {
  // CHECK: plan.weight @a {{.*}} bytes 4096 at 0
  plan.weight @a from @w layout "panel16" format "f32" bytes 4096
  // CHECK: plan.weight @b {{.*}} bytes 2048 at 4096
  plan.weight @b from @w layout "panel16" format "bf16" bytes 2048
  // CHECK: plan.weight @c {{.*}} bytes 4096 at 8192
  plan.weight @c from @w layout "row_major" format "f32" bytes 4096
  // CHECK: plan.weight @d {{.*}} bytes 2048 at 12288
  plan.weight @d from @w layout "row_major" format "f16" bytes 2048
  // CHECK: plan.cache @k bytes 5000 at 0
  plan.cache @k bytes 5000
  // CHECK: plan.cache @v bytes 4096 at 8192
  plan.cache @v bytes 4096
  // CHECK: plan.io @header bytes 32 at 0
  plan.io @header bytes 32
  // CHECK: plan.io @logits bytes 300 at 256
  plan.io @logits bytes 300

  // A chain: each buffer dies at the next launch, so two places suffice.
  // CHECK: plan.program @tokens16 tokens 16 arena 4096 live 4096 {
  plan.program @tokens16 tokens 16 {
    %h = plan.async.io @header : !plan.buffer<32>
    %w = plan.async.weight @a : !plan.buffer<4096>
    %0 = plan.async.transient "0" : !plan.buffer<2048>
    %1 = plan.async.transient "1" : !plan.buffer<2048>
    %2 = plan.async.transient "2" : !plan.buffer<2048>
    %3 = plan.async.transient "3" : !plan.buffer<2048>
    // CHECK-NEXT: plan.cmd.launch @linear_0(io[0 for 32], arena[[A:\[0 for 2048\]|\[2048 for 2048\]]], weights[0 for 4096], none, arena[[B:\[0 for 2048\]|\[2048 for 2048\]]]) stream 0 label "first"
    plan.async.launch @linear_0(%h[32], %0[2048], %w[4096], none, %1[2048]) stream 0 label "first"
    // CHECK-NEXT: plan.cmd.launch @linear_0(io[0 for 32], arena[[B]], weights[0 for 4096], none, arena[[A]]) stream 0 label "second"
    plan.async.launch @linear_0(%h[32], %1[2048], %w[4096], none, %2[2048]) stream 0 label "second"
    // CHECK-NEXT: plan.cmd.launch @linear_0(io[0 for 32], arena[[A]], weights[0 for 4096], none, arena[[B]]) stream 0 label "third"
    plan.async.launch @linear_0(%h[32], %2[2048], %w[4096], none, %3[2048]) stream 0 label "third"
  }

  // CHECK: plan.program @tokens32 tokens 32 arena 12288 live 12288 {
  plan.program @tokens32 tokens 32 {
    %h = plan.async.io @header : !plan.buffer<32>
    %a = plan.async.transient "a" : !plan.buffer<4096>
    %b = plan.async.transient "b" : !plan.buffer<4096>
    %c = plan.async.transient "c" : !plan.buffer<4096>
    %d = plan.async.transient "d" : !plan.buffer<4096>
    // The sum takes the place of the residual, which dies here.
    // CHECK-NEXT: plan.cmd.launch @residual_0(io[0 for 32], arena[[A:\[[0-9]+ for 4096\]]], arena[[B:\[[0-9]+ for 4096\]]], arena[[A]]) stream 0 label "in place"
    plan.async.launch @residual_0(%h[32], %a[4096], %b[4096], %c[4096]) stream 0 label "in place"
    // Not here: its residual is read again.
    // CHECK-NEXT: plan.cmd.launch @residual_0(io[0 for 32], arena[[A]], arena[[B]], arena[[D:\[[0-9]+ for 4096\]]]) stream 0 label "residual lives on"
    plan.async.launch @residual_0(%h[32], %c[4096], %b[4096], %d[4096]) stream 0 label "residual lives on"
    %e = plan.async.transient "e" : !plan.buffer<4096>
    // Nor here: both operands are the same buffer.
    // CHECK-NEXT: plan.cmd.launch @residual_0(io[0 for 32], arena[[D]], arena[[D]], arena[[E:\[[0-9]+ for 4096\]]]) stream 0 label "twice"
    plan.async.launch @residual_0(%h[32], %d[4096], %d[4096], %e[4096]) stream 0 label "twice"
    %f = plan.async.transient "f" : !plan.buffer<4096>
    // CHECK-NEXT: plan.cmd.launch @residual_0(io[0 for 32], arena[[A]], arena[[E]],
    plan.async.launch @residual_0(%h[32], %c[4096], %e[4096], %f[4096]) stream 0 label "end"
  }
}

// Program order says nothing about operations of different streams: nothing is reused. Events are
// numbered in the order of their records.
// CHECK-LABEL: plan.rank @rank1
// CHECK: plan.program @tokens16 tokens 16 arena 8192 live 8192 {
plan.rank @rank1 number 1 {
  plan.weight @a from @w layout "panel16" format "f32" bytes 4096
  plan.io @header bytes 32
  plan.program @tokens16 tokens 16 {
    %h = plan.async.io @header : !plan.buffer<32>
    %w = plan.async.weight @a : !plan.buffer<4096>
    %0 = plan.async.transient "0" : !plan.buffer<2048>
    %1 = plan.async.transient "1" : !plan.buffer<2048>
    %2 = plan.async.transient "2" : !plan.buffer<2048>
    %3 = plan.async.transient "3" : !plan.buffer<2048>
    plan.async.launch @linear_0(%h[32], %0[2048], %w[4096], none, %1[2048]) stream 0 label "first"
    // CHECK: plan.cmd.record event 0 stream 0
    %done = plan.async.record stream 0
    // CHECK-NEXT: plan.cmd.wait event 0 stream 1
    plan.async.wait %done stream 1
    // CHECK-NEXT: plan.cmd.collective all_reduce arena[{{[0-9]+}} for 2048] into arena[{{[0-9]+}} for 2048] of f32 among [0, 1] stream 1 label "sum"
    plan.async.collective all_reduce %1 into %2 of f32 among [0, 1] stream 1 label "sum" : !plan.buffer<2048>, !plan.buffer<2048>
    // CHECK-NEXT: plan.cmd.record event 1 stream 1
    %summed = plan.async.record stream 1
    // CHECK-NEXT: plan.cmd.wait event 1 stream 0
    plan.async.wait %summed stream 0
    plan.async.launch @linear_0(%h[32], %2[2048], %w[4096], none, %3[2048]) stream 0 label "second"
  }
}
}
