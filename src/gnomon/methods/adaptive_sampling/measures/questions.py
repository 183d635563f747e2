"""Questions of the real run: products and capitals, each with its one right answer."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from gnomon.core.rng import Rng
from gnomon.core.rollout import Reward, Sample, Task
from gnomon.core.text.matching import answered_number, value_of

# Countries with one undisputed capital whose usual English name is one spelling.
_CAPITALS = """
Afghanistan Kabul|Albania Tirana|Algeria Algiers|Angola Luanda|Argentina Buenos Aires|Armenia Yerevan|Australia Canberra
Austria Vienna|Azerbaijan Baku|Bahrain Manama|Bangladesh Dhaka|Barbados Bridgetown|Belarus Minsk|Belgium Brussels
Belize Belmopan|Bhutan Thimphu|Botswana Gaborone|Brazil Brasilia|Bulgaria Sofia|Cambodia Phnom Penh|Cameroon Yaounde
Canada Ottawa|Chile Santiago|China Beijing|Colombia Bogota|Croatia Zagreb|Cuba Havana|Cyprus Nicosia|Denmark Copenhagen
Djibouti Djibouti|Ecuador Quito|Egypt Cairo|Eritrea Asmara|Estonia Tallinn|Ethiopia Addis Ababa|Fiji Suva|Finland Helsinki
France Paris|Gabon Libreville|Georgia Tbilisi|Germany Berlin|Ghana Accra|Greece Athens|Guinea Conakry|Guyana Georgetown
Haiti Port-au-Prince|Honduras Tegucigalpa|Hungary Budapest|Iceland Reykjavik|India New Delhi|Indonesia Jakarta|Iran Tehran
Iraq Baghdad|Ireland Dublin|Italy Rome|Jamaica Kingston|Japan Tokyo|Jordan Amman|Kenya Nairobi|Kuwait Kuwait City
Kyrgyzstan Bishkek|Laos Vientiane|Latvia Riga|Lebanon Beirut|Lesotho Maseru|Liberia Monrovia|Libya Tripoli|Lithuania Vilnius
Luxembourg Luxembourg|Madagascar Antananarivo|Malawi Lilongwe|Malaysia Kuala Lumpur|Maldives Male|Mali Bamako|Malta Valletta
Mauritania Nouakchott|Mauritius Port Louis|Mexico Mexico City|Moldova Chisinau|Mongolia Ulaanbaatar|Morocco Rabat
Mozambique Maputo|Namibia Windhoek|Nepal Kathmandu|New Zealand Wellington|Nicaragua Managua|Niger Niamey|Nigeria Abuja
Norway Oslo|Oman Muscat|Pakistan Islamabad|Panama Panama City|Paraguay Asuncion|Peru Lima|Philippines Manila|Poland Warsaw
Portugal Lisbon|Qatar Doha|Romania Bucharest|Russia Moscow|Rwanda Kigali|Saudi Arabia Riyadh|Senegal Dakar|Serbia Belgrade
Singapore Singapore|Slovakia Bratislava|Slovenia Ljubljana|Somalia Mogadishu|South Korea Seoul|Spain Madrid|Sudan Khartoum
Sweden Stockholm|Syria Damascus|Taiwan Taipei|Tanzania Dodoma|Thailand Bangkok|Togo Lome|Tunisia Tunis|Turkey Ankara
Uganda Kampala|Ukraine Kyiv|United Kingdom London|Uruguay Montevideo|Uzbekistan Tashkent|Venezuela Caracas|Vietnam Hanoi
Yemen Sanaa|Zambia Lusaka|Zimbabwe Harare
"""
_TWO_WORDS = ("New Zealand", "Saudi Arabia", "South Korea", "United Kingdom")


def capitals() -> dict[str, str]:
    """Country -> capital.

    >>> capitals()["New Zealand"], capitals()["Argentina"], len(capitals())
    ('Wellington', 'Buenos Aires', 123)
    """
    pairs = {}
    for entry in _CAPITALS.replace("\n", "|").split("|"):
        if entry:
            country = next((name for name in _TWO_WORDS if entry.startswith(name)), entry.split()[0])
            pairs[country] = entry[len(country) :].strip()
    return pairs


def questions(products: int, countries: int, rng: Rng) -> tuple[list[Task], list[Task]]:
    """Questions to learn from, two thirds, and questions to measure on.

    The two share no country, and no learning question has a factor that the second factor of a test question is.

    Args:
        products: how many, at most 90.
        countries: how many, at most all.
        rng: draws them and the split.
    """
    draw = rng.numpy()
    factors = draw.permutation(range(3, 20)).tolist()
    tested = set(factors[: len(factors) // 3])
    grid = [(a, b) for a in range(3, 13) for b in range(3, 20)]
    learning: list[Task] = []
    testing: list[Task] = []
    wanted = {True: products // 3, False: products - products // 3}
    for i in draw.permutation(len(grid)).tolist():
        a, b = grid[i]
        is_tested = b in tested
        if wanted[is_tested] > 0 and (is_tested or a not in tested):  # 3 x 7 is 7 x 3
            wanted[is_tested] -= 1
            text = f"What is {a} x {b}? Answer with the number only."
            side = testing if is_tested else learning
            side.append(Task(f"product-{a}-{b}", text, reference=str(a * b), meta={"kind": "products"}))
    pairs = list(capitals().items())
    chosen = [pairs[i] for i in draw.permutation(len(pairs)).tolist()[:countries]]
    for at, (country, capital) in enumerate(chosen):
        text = f"What is the capital of {country}? Answer with the name only."
        side = testing if at < len(chosen) // 3 else learning
        side.append(Task(f"capital-{country}", text, reference=capital, meta={"kind": "capitals"}))
    return learning, testing


def _form(text: str) -> Hashable:
    number = answered_number(text)
    return number if number is not None else text.strip().strip(".").casefold() or None


def _grade(samples: Sequence[Sample]) -> list[float]:
    rewards = []
    for sample in samples:
        reference = str(sample.task.reference)
        if sample.task.meta["kind"] == "products":
            number = answered_number(sample.completion)
            rewards.append(float(number is not None and number == value_of(reference)))
        else:
            rewards.append(float(reference.casefold() in sample.completion.casefold()))
    return rewards


REWARD = Reward("rule:products and capitals", _grade, _form)
"""1 for the right number, or for an answer that names the capital."""
