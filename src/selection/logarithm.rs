//! Binary logarithms in integers, the same on every machine.
//!
//! A floating-point logarithm may differ in its last bits between processors and libraries. Then two servers could
//! rank candidates differently. [`negative_log2`] is exact by definition:
//!
//! ```text
//! x          = 2^(63 - z) * (1 + f)     z leading zero bits; f is the other 63 bits, 0 <= f < 1
//! -log2(x / 2^64) = z + 1 - log2(1 + f)
//!
//! log2(1 + f): f is in cell i of 256, at s of its width (44 bits, the rest is cut off)
//!   node(n)  = log2(1 + n / 512), 56 bits after the point, for n = 0..=512
//!   start    = node(2i)        rise  = node(2i + 2) - node(2i)
//!   bulge    = 4 * node(2i + 1) - 2 * node(2i) - 2 * node(2i + 2)
//!   log2     = start + s * (rise + bulge * (1 - s))
//! ```
//!
//! The parabola meets the logarithm at both ends and in the middle of the cell.

/// The number of bits after the point of a logarithm.
pub(super) const LOG_BITS: u32 = 56;
const ONE: u64 = 1 << LOG_BITS;
/// The number of cells is 256, so that one byte is the index.
const CELLS: usize = 256;
/// The number of bits of the position within a cell. With more bits than the slope of a cell has, the parabola would not
/// be monotonic in integers.
const POSITION_BITS: u32 = 44;

/// The logarithm within one cell. All values have [`LOG_BITS`] bits after the point.
#[derive(Clone, Copy)]
struct LogCell {
    /// At the lower end.
    start: u64,
    /// The increase from the lower end to the upper one.
    rise: u64,
    /// Four times the height of the parabola above the chord, in the middle.
    bulge: u64,
}

static TABLE: [LogCell; CELLS] = table();

const fn table() -> [LogCell; CELLS] {
    let mut cells = [LogCell { start: 0, rise: 0, bulge: 0 }; CELLS];
    let mut start = node(0);
    let mut index = 0;
    while index < CELLS {
        let number = 2 * index as u64;
        let (middle, end) = (node(number + 1), node(number + 2));
        cells[index] = LogCell { start, rise: end - start, bulge: 4 * middle - 2 * start - 2 * end };
        start = end;
        index += 1;
    }
    cells
}

/// `log2(1 + number / 512)`: see [`log2`].
const fn node(number: u64) -> u64 {
    if number == 512 { ONE } else { log2((1 << 63) + (number << 54)) }
}

/// The logarithm of `mantissa / 2^63`, which is at least 1 and below 2, by squaring: if the square is at least 2, the
/// next bit is 1, and the square is halved. Each square is cut off after 63 bits, so the error is below `2^-55`.
#[allow(clippy::cast_possible_truncation, reason = "the shifted square has 64 bits")]
const fn log2(mantissa: u64) -> u64 {
    let (mut mantissa, mut bits, mut logarithm) = (mantissa, 0, 0);
    while bits < LOG_BITS {
        let square = mantissa as u128 * mantissa as u128;
        let bit = (square >> 127) as u64;
        mantissa = (square >> (63 + bit)) as u64;
        logarithm = logarithm << 1 | bit;
        bits += 1;
    }
    logarithm
}

/// `-log2(x / 2^64)` with [`LOG_BITS`] bits after the point, for a positive `x`; at least 1. It never increases with
/// `x`. It differs from the logarithm by less than `2^-29`, and by less than a millionth of the logarithm.
#[inline]
#[allow(
    clippy::cast_possible_truncation,
    reason = "both products are below their first factor after the shift"
)]
pub(super) fn negative_log2(x: u64) -> u64 {
    debug_assert!(x > 0, "0 has no logarithm");
    let zeros = x.leading_zeros();
    // The highest bit is always 1, and is shifted out.
    let fraction = (x << (zeros & 63)) << 1;
    let [cell, ..] = fraction.to_be_bytes();
    let LogCell { start, rise, bulge } = TABLE[usize::from(cell)];
    let position = (fraction << 8) >> (64 - POSITION_BITS);
    let times_position = |value: u64| ((u128::from(value) * u128::from(position)) >> POSITION_BITS) as u64;
    let within = times_position(rise + bulge - times_position(bulge));
    (u64::from(zeros) + 1) * ONE - (start + within)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    #[allow(clippy::cast_precision_loss, reason = "compared with a tolerance")]
    fn as_float(fixed: u64) -> f64 {
        fixed as f64 / ONE as f64
    }

    /// The first and the last number of each cell, their neighbours, and some between, for each number of leading zeros.
    fn samples() -> Vec<u64> {
        let mut samples = vec![1, 2, 3, u64::MAX];
        let mut rng = SmallRng::seed_from_u64(7);
        for zeros in 0..64 {
            let first = 1_u64 << (63 - zeros);
            let start_of = |cell: u128| u64::try_from((u128::from(first) * cell) >> 8).unwrap();
            for start in (0..256).map(|cell| first + start_of(cell)) {
                let width = (first >> 8).max(1);
                samples.extend([0, 1, width / 2, width - 1].map(|offset| start.saturating_add(offset)));
                samples.extend((0..4).map(|_| start + rng.next_u64() % width));
            }
        }
        samples.extend((0..200_000).map(|_| rng.next_u64().max(1)));
        samples.sort_unstable();
        samples.dedup();
        samples
    }

    #[test]
    fn logarithms_never_increase() {
        for pair in samples().windows(2) {
            let [low, high] = pair else { panic!("{pair:?}") };
            assert!(negative_log2(*low) >= negative_log2(*high), "{low} and {high}");
        }
        assert_eq!(negative_log2(1), 64 * ONE);
        assert_eq!(negative_log2(1 << 63), ONE);
        assert!(negative_log2(u64::MAX) >= 1);
    }

    /// Within a cell, the parabola grows with each step of the position: its slope is above the largest loss by rounding.
    #[test]
    fn each_cell_is_monotonic_and_ends_where_the_next_one_starts() {
        let mut expected = 0;
        for LogCell { start, rise, bulge } in TABLE {
            assert_eq!(start, expected);
            assert!(rise - bulge > 1 << (POSITION_BITS + 1), "{rise}, {bulge}");
            assert!(bulge < 1 << POSITION_BITS, "{bulge}");
            expected = start + rise;
        }
        assert_eq!(expected, ONE);
    }

    #[test]
    fn errors_are_small() {
        let (mut absolute, mut relative) = (0.0_f64, 0.0_f64);
        for x in samples() {
            // The logarithm of a number near 1 loses digits, that of the distance to 1 does not.
            #[allow(clippy::cast_precision_loss, reason = "compared with a tolerance")]
            let exact = if x > 1 << 62 {
                -(-((x.wrapping_neg()) as f64) / 2_f64.powi(64)).ln_1p() / std::f64::consts::LN_2
            } else {
                64.0 - (x as f64).log2()
            };
            let error = (as_float(negative_log2(x)) - exact).abs();
            absolute = absolute.max(error);
            // Below, the last bit of the result is the larger part of the error.
            if exact > 2_f64.powi(-30) {
                relative = relative.max(error / exact);
            }
        }
        assert!(absolute < 2_f64.powi(-29), "{absolute}");
        assert!(relative < 1e-6, "{relative}");
    }

    /// Nodes are exact to their last bit, or one less.
    #[test]
    fn nodes_are_logarithms() {
        for number in 0..=512_u32 {
            let exact = (f64::from(number) / 512.0).ln_1p() / std::f64::consts::LN_2;
            assert!((as_float(node(number.into())) - exact).abs() < 1e-15, "{number}");
        }
    }
}
