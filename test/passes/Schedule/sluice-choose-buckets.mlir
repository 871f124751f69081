// RUN: sluice-opt --sluice-choose-buckets %s | FileCheck %s --check-prefix=DEFAULT
// RUN: sluice-opt --sluice-choose-buckets="buckets=1,16" %s | FileCheck %s --check-prefix=GIVEN
// RUN: sluice-opt --sluice-choose-buckets="arrivals=1:1000,7:10,8:10,96:3 max-buckets=4" %s | FileCheck %s --check-prefix=ARRIVALS
// RUN: sluice-opt --sluice-choose-buckets="arrivals=1:1000,7:10,8:10,96:3 bucket-cost=20.0" %s | FileCheck %s --check-prefix=COST

// Powers of two and the limit.
// DEFAULT: plan.buckets = array<i64: 1, 2, 4, 8, 16, 32, 64, 100>
// The limit is always a bucket.
// GIVEN: plan.buckets = array<i64: 1, 16, 100>
// ARRIVALS: plan.buckets = array<i64: 1, 8, 96, 100>
// The bucket of 96 would save 3 * 4 padded tokens, less than its price.
// COST: plan.buckets = array<i64: 1, 8, 100>
module attributes {
  moe.limits = {max_batch_tokens = 100 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64,
                max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 16 : i64}
} {}
