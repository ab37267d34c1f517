//! The examples of OPC 10000-13, Annex A (release 1.04): A.5, A.13 to A.16 and A.29 as they are printed;
//! where the annex could not be had, what the definition says of the same histories.

use super::super::aggregates::Aggregate;
use super::super::aggregates::tests::{
    HISTORIAN_1, HISTORIAN_2, RULES_1, RULES_2, check, check_first,
};

#[test]
fn time_average_2_as_in_annex_a_5() {
    check(
        &HISTORIAN_1,
        Aggregate::TimeAverage2,
        5,
        RULES_1,
        "
         0 - NoData
         5 - NoData
        10 12.5 Good Calculated
        15 17.5 Good Calculated
        20 22.5 Good Calculated
        25 27.5 Good Calculated
        30 30   SubNormal Calculated
        35 30   SubNormal Calculated
        40 - NoData
        45 - NoData
        50 52.5 Good Calculated
        55 57.5 Good Calculated
        60 62.5 SubNormal Calculated
        65 67.5 SubNormal Calculated
        70 72.5 SubNormal Calculated
        75 77.5 SubNormal Calculated
        80 82.5 Good Calculated
        85 87.5 Good Calculated
        90 90   SubNormal Calculated Partial
        95 - NoData
        ",
    );
    check_first(
        &HISTORIAN_2,
        Aggregate::TimeAverage2,
        5,
        RULES_2,
        "
         0 10.652 SubNormal Calculated Partial
         5 12.391 Good Calculated
        10 14.565 Good Calculated
        15 16.739 Good Calculated
        20 18.913 Good Calculated
        25 23.682 Good Calculated
        30 27.045 Good Calculated
        35 29.273 SubNormal Calculated
        40 30     SubNormal Calculated
        45 42.5   SubNormal Calculated
        50 49.45  Good Calculated
        55 52.75  Good Calculated
        60 55.25  Good Calculated
        65 57.75  Good Calculated
        70 59.8   SubNormal Calculated
        ",
    );
}

/// 5.4.3.9: the mean times the seconds that have values.
#[test]
fn total_2_leaves_out_the_time_without_values() {
    check_first(
        &HISTORIAN_1,
        Aggregate::Total2,
        16,
        RULES_1,
        "
         0 78  SubNormal Calculated Partial
        16 382 SubNormal Calculated
        32 240 SubNormal Calculated
        48 798 SubNormal Calculated
        ",
    );
}

#[test]
fn minimum_2_as_in_annex_a_13() {
    check(
        &HISTORIAN_1,
        Aggregate::Minimum2,
        16,
        RULES_1,
        "
         0 10 SubNormal Calculated Partial
        16 16 SubNormal Interpolated
        32 30 SubNormal Interpolated
        48 50 SubNormal Calculated
        64 64 SubNormal Interpolated
        80 80 SubNormal Partial
        96 -  NoData
        ",
    );
    check(
        &HISTORIAN_2,
        Aggregate::Minimum2,
        16,
        RULES_2,
        "
         0 10     SubNormal Calculated Partial
        16 16.087 Good Interpolated
        32 26.818 SubNormal Interpolated
        48 40     Good
        64 56     SubNormal Interpolated
        80 70     SubNormal Calculated Partial
        96 -      NoData
        ",
    );
}

#[test]
fn maximum_2_as_in_annex_a_14() {
    check(
        &HISTORIAN_1,
        Aggregate::Maximum2,
        16,
        RULES_1,
        "
         0 16 SubNormal Interpolated Partial
        16 30 SubNormal Calculated MultipleValues
        32 30 SubNormal Interpolated
        48 64 SubNormal Interpolated
        64 80 SubNormal Calculated
        80 90 SubNormal Calculated Partial
        96 -  NoData
        ",
    );
    check(
        &HISTORIAN_2,
        Aggregate::Maximum2,
        16,
        RULES_2,
        "
         0 16.087 SubNormal Interpolated Partial
        16 26.818 Good Interpolated
        32 40     SubNormal Calculated
        48 56     Good Interpolated
        64 60     SubNormal Calculated
        80 90     SubNormal Calculated Partial
        96 -      NoData
        ",
    );
}

#[test]
fn minimum_actual_time_2_as_in_annex_a_15() {
    check(
        &HISTORIAN_1,
        Aggregate::MinimumActualTime2,
        16,
        RULES_1,
        "
        10 10 SubNormal Partial
        16 16 SubNormal Interpolated
        32 30 SubNormal Interpolated
        50 50 SubNormal
        64 64 SubNormal Interpolated
        80 80 SubNormal Partial
        96 -  NoData
        ",
    );
    check(
        &HISTORIAN_2,
        Aggregate::MinimumActualTime2,
        16,
        RULES_2,
        "
         2 10     SubNormal Partial
        16 16.087 Good Interpolated
        32 26.818 SubNormal Interpolated
        48 40     Good
        64 56     SubNormal Interpolated
        83 70     SubNormal Partial
        96 -      NoData
        ",
    );
}

#[test]
fn maximum_actual_time_2_as_in_annex_a_16() {
    check(
        &HISTORIAN_1,
        Aggregate::MaximumActualTime2,
        16,
        RULES_1,
        "
        15.999 16 SubNormal Interpolated Partial
        30     30 SubNormal MultipleValues
        32     30 SubNormal Interpolated
        63.999 64 SubNormal Interpolated
        79.999 80 SubNormal Interpolated
        90     90 SubNormal Partial
        96     -  NoData
        ",
    );
    check(
        &HISTORIAN_2,
        Aggregate::MaximumActualTime2,
        16,
        RULES_2,
        "
        15.999 16.087 SubNormal Interpolated Partial
        31.999 26.818 Good Interpolated
        47.999 40     SubNormal Interpolated
        63.999 56     Good Interpolated
        72     60     SubNormal
        90     90     SubNormal Partial
        96     -      NoData
        ",
    );
}

/// 5.4.3.19: the difference of the two above.
#[test]
fn range_2_is_the_greatest_less_the_least() {
    check(
        &HISTORIAN_1,
        Aggregate::Range2,
        16,
        RULES_1,
        "
         0 6  SubNormal Calculated Partial
        16 14 SubNormal Calculated
        32 0  SubNormal Calculated
        48 14 SubNormal Calculated
        64 16 SubNormal Calculated
        80 10 SubNormal Calculated Partial
        96 -  NoData
        ",
    );
}

#[test]
fn duration_good_as_in_annex_a_29() {
    check(
        &HISTORIAN_1,
        Aggregate::DurationGood,
        16,
        RULES_1,
        "
         0 6000  Good Calculated Partial
        16 16000 Good Calculated
        32 0     Good Calculated
        48 14000 Good Calculated
        64 0     Good Calculated
        80 10001 Good Calculated Partial
        96 -     NoData
        ",
    );
    check(
        &HISTORIAN_2,
        Aggregate::DurationGood,
        16,
        RULES_2,
        "
         0 14000 Good Calculated Partial
        16 16000 Good Calculated
        32 10000 Good Calculated
        48 16000 Good Calculated
        64 13000 Good Calculated
        80 7001  Good Calculated Partial
        96 -     NoData
        ",
    );
}

/// 5.4.3.32 to 5.4.3.34: the time without data is Bad, and what is Uncertain is neither.
#[test]
fn what_is_bad_and_the_shares_of_the_interval() {
    check(
        &HISTORIAN_1,
        Aggregate::DurationBad,
        16,
        RULES_1,
        "
         0 10000 Good Calculated Partial
        16 0     Good Calculated
        32 8000  Good Calculated
        48 2000  Good Calculated
        64 0     Good Calculated
        80 5999  Good Calculated Partial
        96 -     NoData
        ",
    );
    check_first(
        &HISTORIAN_1,
        Aggregate::PercentGood,
        16,
        RULES_1,
        "
         0 37.5 Good Calculated Partial
        16 100  Good Calculated
        32 0    Good Calculated
        48 87.5 Good Calculated
        ",
    );
    check_first(
        &HISTORIAN_1,
        Aggregate::PercentBad,
        16,
        RULES_1,
        "
         0 62.5 Good Calculated Partial
        16 0    Good Calculated
        32 50   Good Calculated
        48 12.5 Good Calculated
        ",
    );
}
