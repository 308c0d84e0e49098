//! Functions with types of their own, which are called with JSON: see `wit/world.wit`.

wit_bindgen::generate!({ world: "typed", path: "wit" });

use exports::demo::shop::orders::{self, Discount, Order, Problem, Receipt, Wishes};

/// What wrapping and sending it at once cost.
const GIFT_WRAP: f64 = 3.0;
const EXPRESS: f64 = 7.5;

struct Typed;

impl Guest for Typed {
    fn add(a: i32, b: i32) -> i32 {
        // A panic is a trap, which is the attempt's end too; this is an answer.
        a.saturating_add(b)
    }

    fn reverse(mut data: Vec<u8>) -> Vec<u8> {
        data.reverse();
        data
    }

    fn sum(numbers: Vec<u64>) -> Option<u64> {
        numbers.into_iter().try_fold(0_u64, u64::checked_add)
    }
}

impl orders::Guest for Typed {
    fn total(order: Order) -> Result<Receipt, Problem> {
        if order.items.is_empty() {
            return Err(Problem::NoItems);
        }
        let mut lines: Vec<(String, f64)> = order
            .items
            .into_iter()
            .map(|item| (item.name, item.price * f64::from(item.quantity)))
            .collect();
        let mut total: f64 = lines.iter().map(|(_, price)| price).sum();
        total -= match order.discount {
            Discount::None => 0.0,
            Discount::Percent(percent) if percent > 50 => {
                return Err(Problem::DiscountTooHigh(percent));
            }
            Discount::Percent(percent) => total * f64::from(percent) / 100.0,
            Discount::Voucher(code) if code == "WELCOME" => 5.0,
            Discount::Voucher(code) => return Err(Problem::UnknownVoucher(code)),
        };
        for (wish, name, price) in [
            (Wishes::GIFT_WRAP, "gift wrap", GIFT_WRAP),
            (Wishes::EXPRESS, "express", EXPRESS),
        ] {
            if order.wishes.contains(wish) {
                lines.push((name.to_owned(), price));
                total += price;
            }
        }
        Ok(Receipt {
            total,
            currency: order.currency,
            lines,
            note: order.note,
        })
    }
}

export!(Typed);
