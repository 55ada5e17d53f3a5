//! Codes of countries and continents.

use std::fmt;

/// The codes of ISO 3166-1, alpha-2, and XK for Kosovo, as geographic databases use them.
const COUNTRIES: &str = "\
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ \
    CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO \
    FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE \
    JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO \
    MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW \
    PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM \
    TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW";

/// Continents, as geographic databases use them.
const CONTINENTS: [(&str, &str); 7] = [
    ("AF", "Africa"),
    ("AN", "Antarctica"),
    ("AS", "Asia"),
    ("EU", "Europe"),
    ("NA", "North America"),
    ("OC", "Oceania"),
    ("SA", "South America"),
];

/// Codes that people write for a country, and its code.
const OTHERS: [(&str, &str); 2] = [("UK", "GB"), ("EL", "GR")];

/// A country: two upper-case letters of ISO 3166-1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Country([u8; 2]);

/// A continent: two upper-case letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Continent([u8; 2]);

impl Country {
    /// The country with this code, if there is one.
    #[must_use]
    pub fn known(code: &str) -> Option<Self> {
        COUNTRIES.split(' ').find(|known| *known == code).and_then(letters).map(Self)
    }

    /// A code from a database, whatever country it stands for; `None` if it is not two upper-case letters.
    #[must_use]
    pub fn of_database(code: &str) -> Option<Self> {
        letters(code).map(Self)
    }

    /// The code that is probably meant by an unknown one.
    #[must_use]
    pub fn meant_by(code: &str) -> Option<&'static str> {
        let upper = code.to_ascii_uppercase();
        let other = OTHERS.iter().find(|(written, _)| *written == upper).map(|(_, code)| *code);
        other.or_else(|| COUNTRIES.split(' ').find(|known| *known == upper))
    }
}

impl Continent {
    /// A code from a database; `None` if it is not two upper-case letters.
    #[must_use]
    pub fn of_database(code: &str) -> Option<Self> {
        letters(code).map(Self)
    }

    /// The continent with this code, if there is one.
    #[must_use]
    pub fn known(code: &str) -> Option<Self> {
        CONTINENTS.iter().find(|(known, _)| *known == code).and_then(|_| letters(code)).map(Self)
    }

    /// The code that is probably meant by an unknown one: in another case, or the name.
    #[must_use]
    pub fn meant_by(text: &str) -> Option<&'static str> {
        let is_meant =
            |(code, name): &&(&str, &str)| code.eq_ignore_ascii_case(text) || name.eq_ignore_ascii_case(text);
        CONTINENTS.iter().find(is_meant).map(|(code, _)| *code)
    }

    /// All codes with their names.
    pub fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
        CONTINENTS.into_iter()
    }
}

/// Two upper-case letters.
fn letters(code: &str) -> Option<[u8; 2]> {
    let letters: [u8; 2] = code.as_bytes().try_into().ok()?;
    letters.iter().all(u8::is_ascii_uppercase).then_some(letters)
}

fn show(letters: [u8; 2], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(std::str::from_utf8(&letters).unwrap_or("??"))
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(self.0, f)
    }
}

impl fmt::Display for Continent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(self.0, f)
    }
}
