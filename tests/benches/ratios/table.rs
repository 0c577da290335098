//! What was measured, as a table.

/// One comparison. All numbers are medians.
pub(crate) struct Row {
    pub(crate) what: String,
    /// What we did, with its unit.
    pub(crate) ours: String,
    /// What the least that could do the same did.
    pub(crate) baseline: String,
    /// The number that the aim is about.
    pub(crate) ratio: f64,
    pub(crate) aim: Aim,
    /// Where the time goes, or how spread the ratios were.
    pub(crate) note: String,
}

/// What is hoped for.
#[derive(Clone, Copy)]
pub(crate) enum Aim {
    AtLeast(f64),
    AtMost(f64),
    /// Watched only.
    Open,
}

pub(crate) fn print(rows: &[Row]) {
    let head = ["", "ours", "baseline", "ratio", "aim", ""].map(str::to_owned);
    let mut cells = vec![head];
    for row in rows {
        let mark = |met: bool| if met { "met" } else { "missed" };
        let aim = match row.aim {
            Aim::AtLeast(aim) => format!(">= {aim} {}", mark(row.ratio >= aim)),
            Aim::AtMost(aim) => format!("<= {aim} {}", mark(row.ratio <= aim)),
            Aim::Open => String::new(),
        };
        cells.push([
            row.what.clone(),
            row.ours.clone(),
            row.baseline.clone(),
            format!("{:.2}", row.ratio),
            aim,
            row.note.clone(),
        ]);
    }
    println!();
    for line in &cells {
        for (column, cell) in line.iter().enumerate() {
            let width = cells.iter().filter_map(|line| line.get(column));
            let width = width.map(|cell| cell.chars().count()).max().unwrap_or(0);
            print!("{cell:width$}  ");
        }
        println!();
    }
}

/// Returns the middle one of some numbers, and the smallest and the largest.
pub(crate) fn median(numbers: impl IntoIterator<Item = f64>) -> (f64, f64, f64) {
    let mut numbers: Vec<f64> = numbers.into_iter().collect();
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN);
    let first = numbers.first().copied().unwrap_or(f64::NAN);
    let last = numbers.last().copied().unwrap_or(f64::NAN);
    (middle, first, last)
}
