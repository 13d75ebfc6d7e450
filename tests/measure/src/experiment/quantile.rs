// SPDX-License-Identifier: GPL-2.0
//! Values at a place in an order.

/// The value that so large a part of `values`, in order and not empty, does not exceed.
pub fn quantile(values: &[f64], part: f64) -> f64 {
    let rank = (values.len() as f64 * part).ceil() as usize;
    values[rank.clamp(1, values.len()) - 1]
}

/// The value in the middle of `values`, in order and not empty.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let values = [1.0, 2.0, 3.0, 4.0];
        let parts = [0.0, 0.25, 0.5, 0.51, 1.0];
        assert_eq!(
            parts.map(|part| quantile(&values, part)),
            [1.0, 1.0, 2.0, 3.0, 4.0]
        );
    }
}
