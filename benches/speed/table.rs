//! The table: each row has a figure, its limit, their ratio or difference, and the aim.

/// The rows so far.
#[derive(Default)]
pub struct Table(Vec<[String; 5]>);

/// The good side of an aim.
pub enum Aim {
    AtMost(f64),
    AtLeast(f64),
}

impl Table {
    /// Adds a row. The aim applies to `value`, which is shown as `come_to`.
    pub fn row(
        &mut self,
        what: &str,
        figure: String,
        limit: String,
        value: f64,
        unit: &str,
        aim: Aim,
    ) {
        let show = |value: f64| match unit {
            "%" => format!("{:.0} %", value * 100.0),
            "×" => format!("{value:.2} ×"),
            _ => format!("{value:.1} {unit}"),
        };
        let (met, aim) = match aim {
            Aim::AtMost(most) => (value <= most, format!("≤ {}", show(most))),
            Aim::AtLeast(least) => (value >= least, format!("≥ {}", show(least))),
        };
        let verdict = if met { "met" } else { "MISSED" };
        self.0.push([
            what.into(),
            figure,
            limit,
            show(value),
            format!("{aim}  {verdict}"),
        ]);
    }

    /// Adds a row without an aim, which explains another row.
    pub fn note(&mut self, what: &str, figure: String, limit: String) {
        self.0.push([
            format!("  {what}"),
            figure,
            limit,
            String::new(),
            String::new(),
        ]);
    }

    /// Prints all rows.
    pub fn print(&self) {
        let head = ["", "library", "limit", "comes to", "aim"].map(str::to_owned);
        let rows = || std::iter::once(&head).chain(&self.0);
        let widths: Vec<usize> = (0..5)
            .map(|at| rows().map(|row| row[at].chars().count()).max().unwrap_or(0))
            .collect();
        for row in rows() {
            let line: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            println!("{}", line.join("   ").trim_end());
        }
    }
}
