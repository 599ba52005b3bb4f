"""The words that augmentation knows: concepts by class, synonyms, abbreviations. Data, no code to
speak of, and longer than a module of code may be; written for this project, from no test set.

A concept is a noun phrase that may stand for a column or a table. What is of one class may take
another's place in question, schema and query, and the question stays a sensible one.
"""


def _table(text: str) -> dict[str, tuple[str, ...]]:
    """`class: phrase, phrase` a line."""
    rows = (line.partition(":") for line in text.strip().splitlines())
    return {key.strip(): tuple(p.strip() for p in value.split(",")) for key, _, value in rows}


def _groups(text: str) -> tuple[tuple[str, ...], ...]:
    """A group of phrases a line."""
    return tuple(tuple(p.strip() for p in line.split(",")) for line in text.strip().splitlines())


# Columns. A phrase is classed by the last of its words that stands alone in a line here.
COLUMNS = _table("""
name: name, title, label, nickname, full name, display name, official name, short name, common name, alias, designation, former name, local name, registered name, abbreviation
human name: nickname, alias, full name, display name, screen name, stage name, preferred name, birth name, user name, pen name, legal name, call sign
person name: first name, last name, middle name, surname, given name, family name, forename
area: country, state, county, region, district, province, continent, nation, territory, prefecture, canton, sales region, home country, home state
town: city, town, village, hometown, home city, birthplace, municipality, borough, suburb, capital, host city, birth city, home town
spot: location, address, venue, building, campus, site, street, headquarters, destination, origin, street address, neighborhood
origin: nationality, citizenship, ethnicity, religion, native language, mother tongue, ethnic group
language: language, dialect, script, currency, spoken language, official language, local currency
kind: type, category, genre, theme, style, topic, subject, discipline, specialty, field, sector, industry, format, variety, family, group name, domain, class, division, section, department
state: status, condition, phase, stage, mode, availability, visibility status
look: color, colour, shape, material, pattern, texture, flavor, size, finish, fabric, scent, eye color, hair color
study: major, minor, specialization, research area, concentration, favorite subject
make: brand, model, make, engine type, trim, product line, platform
role: position, role, occupation, profession, job title, duty, function, rank title
text: description, comment, note, remark, summary, abstract, detail, slogan, motto, biography, instruction, feedback, explanation, reason, outcome, purpose, caption
contact: email, phone, phone number, fax, fax number, email address, mobile number, cell phone, telephone, website, url, home page, contact number
money: price, cost, salary, budget, fee, revenue, income, balance, profit, sales, wage, rent, fare, payment, tax, discount, deposit, expense, turnover, unit price, list price, market value, net worth, loan, debt, bonus, refund, annual revenue, insurance value, asking price
human measure: age, height, weight, heart rate, body mass, reaction time, arm span, shoe size, blood pressure, stamina, body temperature
measure: age, height, weight, length, width, depth, distance, speed, duration, area, elevation, altitude, temperature, pressure, humidity, density, volume, mileage, radius, thickness, diameter, latitude, longitude, resolution, top speed, wind speed, average speed, wingspan, horsepower, fuel capacity, running time, power, voltage, rainfall, range, reaction time, tonnage, heart rate, body mass
quantity: capacity, population, attendance, enrollment, quantity, stock, membership, number of employees, number of students, number of seats, number of pages, number of votes, number of goals, number of floors, number of awards, number of players, number of visitors, seating capacity, workload, audience size, circulation
count: visitors, passengers, employees, seats, beds, bedrooms, pages, horses, children, residents, workers, vehicles, rooms, chapters
feat: wins, losses, points, goals, gold medals, awards, trophies, credits, assists, stars, rebounds
audience: votes, followers, downloads, likes, subscribers, views, viewers, fans, readers, listeners
score: score, rating, rank, ranking, grade, mark, gpa, percentage, share, rate, priority, popularity, ratio, accuracy, difficulty, reputation, satisfaction
year: year, founding year, birth year, release year, start year, end year, opening year, publication year, construction year, graduation year, model year, launch year, debut year, election year
date: date, start date, end date, birth date, date of birth, hire date, release date, order date, due date, payment date, registration date, publication date, opening date, closing date, delivery date, expiry date, shipping date, enrollment date, arrival date, departure date, booking date, effective date, issue date, inspection date, renewal date
time: start time, end time, arrival time, departure time, opening time, closing time, check in time
person: owner, manager, director, author, coach, advisor, captain, sponsor, editor, composer, producer, founder, president, secretary, treasurer, supervisor, instructor, trainer, artist, writer, designer, architect, mayor, governor, winner, host, guide, chairman, conductor, inventor, pilot, driver, player, nominee, minister, physician, principal, landlord, mentor
firm: manufacturer, publisher, supplier, company, carrier, airline, employer, vendor, label company, distributor, retailer, dealer, contractor, insurer, agency, bank
body: club, team, school, college, university, party, band, affiliation, organization, league, academy
code: code, serial number, license number, postal code, zip code, postcode, account number, registration number, tracking number, passport number, card number, invoice number, flight number, barcode, room number, reference number
""")  # noqa: E501

# Tables, by singular.
TABLES = _table("""
person: person, student, teacher, singer, player, driver, doctor, nurse, patient, customer, client, employee, manager, author, writer, artist, painter, actor, director, pilot, engineer, scientist, researcher, architect, chef, farmer, lawyer, judge, musician, dancer, athlete, swimmer, gymnast, climber, wrestler, cyclist, runner, coach, referee, captain, editor, journalist, reporter, photographer, designer, developer, programmer, mechanic, technician, electrician, plumber, carpenter, soldier, officer, sailor, astronaut, professor, instructor, tutor, scholar, librarian, volunteer, donor, candidate, senator, mayor, politician, president, governor, tourist, guest, visitor, passenger, traveler, tenant, resident, landlord, owner, buyer, seller, shopper, supplier, vendor, agent, broker, analyst, consultant, accountant, cashier, clerk, waiter, barista, baker, butcher, tailor, barber, physician, surgeon, dentist, pharmacist, therapist, host, performer, comedian, poet, composer, conductor, violinist, guitarist, member, subscriber, user, reviewer, critic, entrepreneur, inventor, founder, investor, intern, trainee, apprentice, mentor, gardener, hiker, boxer, golfer, skier, diver, jockey, magician, detective, firefighter, paramedic, translator, curator, historian, geologist, biologist, chemist, physicist, astronomer, economist, contractor, freelancer, builder, perpetrator, individual, friend, body builder, delegate, representative, spokesperson, speaker, attendee, participant, competitor, contestant, fisherman
education: school, college, university, institute, academy, kindergarten, high school, music school, business school, training center
team: team, club, squad, band, choir, orchestra, crew, league, federation, fan club, book club, guild, troupe
venue: museum, gallery, library, theater, cinema, stadium, arena, concert hall, aquarium, zoo, playground, nightclub, amusement park, swimming pool, opera house
shop: shop, store, supermarket, pharmacy, bakery, restaurant, cafe, bookstore, market, boutique, kiosk, grocery, department store, food truck, bar, pizzeria, gas station
organization: company, bank, hospital, clinic, agency, airline, publisher, manufacturer, brewery, studio, laboratory, foundation, charity, association, ministry, organization, institution, firm, startup, factory, winery, retailer, wholesaler, distributor, dealership, garage, newspaper, broadcaster, branch, shipyard, law firm, railway, warehouse, customer service center
lodging: hotel, hostel, dorm, dormitory, apartment, house, cottage, villa, resort, cabin, bungalow, guest house, mansion, chalet, property
room: room, suite, classroom, studio, cabin, ward, chamber, hall, booth, meeting room
region: city, country, state, county, region, district, province, town, village, island, municipality, territory
nature: river, lake, mountain, volcano, forest, desert, valley, canal, cave, waterfall, glacier, park, garden, beach, national park, island, reef, peak, trail
site: airport, station, harbor, port, building, bridge, tower, castle, palace, temple, church, mall, lighthouse, dam, tunnel, mill, mine, power plant, terminal, monument, parking lot, train station, bus stop
travel: flight, voyage, cruise, trip, train ride, tour, expedition, ferry, shuttle, route
event: event, concert, festival, exhibition, match, game, race, tournament, competition, championship, conference, workshop, seminar, lecture, meeting, wedding, ceremony, auction, parade, rally, debate, election, war, battle, expedition, tour, trip, mission, performance, broadcast, screening, premiere, hackathon, webinar, audition, interview, fundraiser, regatta, marathon, expo
work: book, novel, poem, song, album, film, movie, play, musical, opera, painting, photo, photograph, sculpture, podcast, episode, cartoon, comic, article, paper, journal, report, document, video game, documentary, recipe, map, poster, symphony, track, publication, video
product: product, item, car, truck, bicycle, motorcycle, bus, aircraft, ship, boat, yacht, train, drone, robot, phone, laptop, tablet, camera, printer, monitor, keyboard, watch, furniture, chair, table, sofa, lamp, toy, instrument, guitar, piano, shoe, shirt, jacket, wine, beer, coffee, cheese, cake, pizza, dish, medication, medicine, vaccine, machine, engine, tool, device, vehicle, tractor, helicopter, rocket, satellite, telescope, computer, television, battery, tent, backpack, ticket, gadget, appliance, asset, souvenir, chip, perfume, necklace, ring
living: animal, dog, cat, horse, pet, bird, fish, plant, tree, flower, cow, sheep, goat, lizard, snake, whale, elephant, tiger, butterfly, orchid, mushroom
deal: order, invoice, booking, reservation, payment, purchase, shipment, delivery, claim, policy, contract, transaction, subscription, rental, loan, donation, complaint, appointment, application, license, permit, certificate, grant, refund, quote, account, settlement, submission, agreement, warranty, coupon
study: course, class, program, project, service, activity, workshop, job, problem, procedure, treatment, subject, major, degree, task, assignment, lesson, exam, experiment, module, thesis, internship, training, scholarship
group: department, division, section, office, unit, committee, branch, subsidiary, chapter, taskforce, agency
theme: category, genre, type, topic, series, collection, theme, style, discipline
""")  # noqa: E501

# Words that mean another thing in a question than in a schema, or stand in too many phrases.
NEVER_RENAMED = frozenset(
    """
    number count total amount average sum max min maximum minimum list id ids first last time times
    day days detail details line other all date_from info value values data text row record records
    most least top order by in of to from and or not with for the a an is has per note name_id
    statistics half double single g w l h r e thing things people one two three same each every
    different common people man woman match
    """.split()
)
# May be read as a verb: after one of `VERB_CUES` they are.
VERBS = frozenset(
    """
    rank score cost rate host play start end order name list state result store report visit review
    follow stock ship film direct train book park produce manage supply publish own race tour post
    label address question claim fund grant house contact film study work weigh move share post
    question experiment use process
    """.split()
)
VERB_CUES = frozenset(
    """
    to do does did who they we you can will would must should that which have has had and i it not
    ever also
    """.split()
)
# Adjectives and question words that speak of a column without its name: what they speak of
# can't become something else.
TELLING = _table("""
measure: oldest, older, old, eldest, youngest, younger, young, tallest, taller, tall, shortest, shorter, short, heaviest, heavier, heavy, lightest, lighter, longest, longer, long, fastest, faster, fast, slowest, slower, slow, hottest, hotter, hot, coldest, colder, warmest, warm, deepest, widest, farthest, furthest, closest, nearest, inches, meters, metres, miles, km, kilometers, feet, foot, mph, kg, pounds, degrees, weigh, weighs, weighed, minutes, hours, seconds, milliseconds, lasted, lasts, senior, elder, years, high, largest, larger, biggest, bigger, smallest, smaller, large, small
human measure: oldest, older, old, eldest, youngest, younger, young, tallest, taller, tall, shortest, shorter, short, heaviest, heavier, heavy, lightest, lighter, senior, elder, years, feet, inches, kg, pounds
money: expensive, cheapest, cheaper, cheap, costliest, costs, costing, paid, pay, pays, earn, earns, earning, earned, dollars, dollar, richest, rich, poorest, spent, spend, worth, million, millions, billion, billions, charged, usd, profitable
year: oldest, newest, latest, earliest, recent, recently, newer, older, early, late, founded, built, opened, born, released, when, since, before, after, old, new, young, youngest
date: oldest, newest, latest, earliest, recent, recently, newer, older, early, late, founded, built, opened, born, released, when, since, before, after, between, during, placed, hired, new, youngest
time: latest, earliest, early, late, when, before, after, between
quantity: largest, larger, biggest, bigger, large, big, smallest, smaller, small, populous, populated, popular, crowded, many, much, full, attended
count: popular
audience: popular
score: best, better, worst, worse, good, popular, winning, won
area: where, live, lives, lived, living, born, located, locate, come, comes, came
town: where, live, lives, lived, living, born, located, locate, come, comes, came
spot: where, live, lives, lived, living, located, locate, held
origin: speak, speaks, spoken, native, where, from, born
language: speak, speaks, spoken, native
role: work, works, worked, working, who
person: who, whose, whom
firm: who, whose, made, makes, produced
body: who, whose
name: called, named, who
human name: called, named
person name: called, named
text: why
contact: call
study: study, studies, studied, studying, majoring
""")  # noqa: E501

# Interchangeable in schemas, one group a line; the question keeps its own word.
SYNONYMS = _groups("""
name, title, label
name, label
name, full name, display name
country, nation
city, town
age, years old
location, place, site
salary, pay, wage, earnings, compensation
price, cost
phone, telephone, phone number, contact number
email, mail, email address
employee, staff member, worker
customer, client
teacher, instructor
student, pupil, learner
film, movie, motion picture
type, kind, category
description, detail, text
gender, sex
nationality, citizenship
company, firm, business, corporation
quantity, amount
rank, ranking, standing
rating, score
capacity, max occupancy, seating capacity
date of birth, birth date, birthday
singer, vocalist
song, tune
shop, store, outlet
product, item, article
order, purchase
physician, doctor
job, occupation, profession
last name, surname, family name
first name, given name, forename
hometown, home city
population, inhabitants, number of people
language, tongue
author, writer
vehicle, automobile
airport, airfield
airline, carrier
aircraft, airplane, plane
duration, length, running time
budget, funds, funding
height, stature
weight, mass
area, surface
color, colour
status, state, condition
department, division
course, lesson series, study unit
building, edifice
manager, boss, supervisor
director, film maker
captain, skipper
attendance, visitors, turnout
theme, topic
genre, style
zip code, postal code, postcode
district, borough
province, state
region, territory
start date, begin date, date from
end date, finish date, date to
start time, begin time
end time, finish time
match, fixture
competition, contest, tournament
club, society
member, participant
photo, picture, image
review, feedback
invoice, bill
payment, remittance
shipment, delivery
supplier, vendor
manufacturer, maker, producer
brand, make
room, chamber
house, residence, home
owner, proprietor
driver, motorist
player, athlete
coach, trainer
stadium, arena
concert, gig
band, music group
museum, gallery
ship, vessel
mountain, peak
university, higher school
major, field of study
grade, mark
credit, credit points
comment, remark
enrollment, number enrolled
document, file
project, undertaking
insurance policy, insurance
account, user account
flight, air trip
bridge, overpass
event, happening
stock, inventory
destination, target place
opening year, year opened, open year
founded, established, year founded
founding year, year founded
release year, year released
nickname, moniker
amenity, facility
dorm, dormitory, residence hall
attendee, participant
result, outcome
journalist, reporter
director, head
length, extent
distance, how far
level, tier
year, calendar year
code, short code
website, web page, url
patient, sick person
nurse, caregiver
hospital, infirmary
appointment, consultation
medication, drug, medicine
dish, meal
restaurant, eatery
market value, worth
revenue, turnover, sales
profit, net income
headquarters, head office
industry, line of business
chairman, head of board
president, head
spouse, partner
party, political party
vote, ballot
candidate, contender
winner, victor
loser, defeated side
point, score
goal, goals scored
win, victory
loss, defeat
episode, installment
artist, performer
album, record
track, song
publisher, publishing house
journal, periodical
newspaper, daily
editor, editor in chief
farm, farmstead
animal, creature
dog, hound
pet, companion animal
owner, holder
tenant, renter
lake, body of water
river, stream
island, isle
road, street
train, railway train
car, automobile
bicycle, bike
engine, motor
speed, velocity
power, horsepower
maker, manufacturer
model, version
user, account holder
password, passphrase
message, note
contact, contact person
skill, ability
degree, qualification
scholarship, stipend
tuition, study fee
fee, charge
balance, account balance
branch, branch office
bank, financial institution
currency, money unit
transaction, transfer
""")

# Short form → the word, in names. A word's first short form is the usual one.
ABBREVIATIONS = _table("""
number: num, no, nbr
identifier: id
quantity: qty
department: dept, dep
employee: emp
customer: cust
product: prod
amount: amt
address: addr
description: desc, descr
document: doc
organization: org
account: acct, acc
average: avg
maximum: max
minimum: min
category: cat
manager: mgr
transaction: txn, trans
percent: pct
date: dt
year: yr
telephone: tel
phone: ph
reference: ref
temperature: temp
population: pop
message: msg
password: pwd
position: pos
language: lang
country: ctry
company: comp
building: bldg
university: univ
student: stu
professor: prof
longitude: lng, lon
latitude: lat
location: loc
image: img
picture: pic
invoice: inv
payment: pmt
section: sec
semester: sem
attribute: attr
configuration: config
information: info
specification: spec
statistics: stats
television: tv
vehicle: veh
weight: wt
height: ht
distance: dist
duration: dur
source: src
destination: dst, dest
department store: dept store
""")

# Words run together, which no mark splits.
GLUED_WORDS = _table("""
fname: first name
lname: last name
mname: middle name
firstname: first name
lastname: last name
middlename: middle name
fullname: full name
username: user name
dob: date of birth
bdate: birth date
birthdate: birth date
stuid: student id
facid: faculty id
custid: customer id
empid: employee id
pid: person id
zipcode: zip code
hometown: home town
datetime: date time
unitprice: unit price
postalcode: postal code
""")
