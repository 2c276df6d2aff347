//! The table: figure, limit, what they come to, and the aim.

/// The rows so far.
#[derive(Default)]
pub struct Table(Vec<[String; 5]>);

/// Which side of an aim is the good one.
pub enum Aim {
    AtMost(f64),
    AtLeast(f64),
}

impl Table {
    /// A row whose aim is about `value`, shown as `come_to`.
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

    /// A row that explains another and has no aim.
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
