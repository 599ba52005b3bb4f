-- A regional haulage company: depots, trucks and vans, drivers, trips, fuel and repairs.
CREATE TABLE depots (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    city TEXT NOT NULL,
    region TEXT NOT NULL,
    parking_spaces INTEGER NOT NULL,
    opened_on DATE
);

CREATE TABLE vehicles (
    id INTEGER PRIMARY KEY,
    plate TEXT NOT NULL,
    kind TEXT NOT NULL,
    depot_id INTEGER,
    bought_on DATE NOT NULL,
    odometer_km INTEGER NOT NULL,
    payload_kg INTEGER NOT NULL,
    is_retired BOOLEAN NOT NULL,
    FOREIGN KEY (depot_id) REFERENCES depots(id)
);

CREATE TABLE drivers (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    licence_class TEXT NOT NULL,
    depot_id INTEGER NOT NULL,
    hired_on DATE NOT NULL,
    phone TEXT,
    mentor_id INTEGER,
    FOREIGN KEY (depot_id) REFERENCES depots(id),
    FOREIGN KEY (mentor_id) REFERENCES drivers(id)
);

CREATE TABLE trips (
    id INTEGER PRIMARY KEY,
    vehicle_id INTEGER NOT NULL,
    driver_id INTEGER NOT NULL,
    departed_on DATE NOT NULL,
    destination TEXT NOT NULL,
    distance_km REAL NOT NULL,
    load_kg INTEGER,
    delay_minutes INTEGER NOT NULL,
    FOREIGN KEY (vehicle_id) REFERENCES vehicles(id),
    FOREIGN KEY (driver_id) REFERENCES drivers(id)
);

CREATE TABLE fuel_stops (
    id INTEGER PRIMARY KEY,
    trip_id INTEGER NOT NULL,
    station TEXT NOT NULL,
    litres REAL NOT NULL,
    price_per_litre NUMERIC NOT NULL,
    FOREIGN KEY (trip_id) REFERENCES trips(id)
);

CREATE TABLE repairs (
    id INTEGER PRIMARY KEY,
    vehicle_id INTEGER NOT NULL,
    repaired_on DATE NOT NULL,
    workshop TEXT NOT NULL,
    description TEXT NOT NULL,
    cost NUMERIC,
    FOREIGN KEY (vehicle_id) REFERENCES vehicles(id)
);

CREATE TABLE driver_certificates (
    driver_id INTEGER NOT NULL,
    certificate TEXT NOT NULL,
    issued_on DATE NOT NULL,
    expires_on DATE,
    PRIMARY KEY (driver_id, certificate),
    FOREIGN KEY (driver_id) REFERENCES drivers(id)
);

INSERT INTO depots VALUES
(1, 'Northgate', 'Aldermoor', 'north', 24, '2008-05-01'),
(2, 'Harbour Yard', 'Saltmere', 'coast', 40, '2003-10-12'),
(3, 'Mill Lane', 'Brackwell', 'central', 16, '2015-03-20'),
(4, 'Eastfield', 'Thornby', 'east', 30, '2011-07-04'),
(5, 'Quarry Park', 'Stonehurst', 'north', 12, '2018-09-17'),
(6, 'River Dock', 'Saltmere', 'coast', 28, '2019-02-25'),
(7, 'Westway', 'Cobham Vale', 'west', 20, NULL),
(8, 'Junction Nine', 'Brackwell', 'central', 55, '2022-11-08'),
(9, 'Hilltop', 'Ashcombe', 'west', 8, '2024-04-15'),
(10, 'Lowlands', 'Marshgate', 'east', 18, NULL);

INSERT INTO vehicles VALUES
(1, 'ALD-101', 'truck', 1, '2017-03-14', 412300, 12000, 0),
(2, 'ALD-102', 'truck', 1, '2019-08-02', 287450, 12000, 0),
(3, 'ALD-207', 'van', 1, '2021-05-27', 134900, 1400, 0),
(4, 'SAL-310', 'tractor unit', 2, '2016-11-30', 655120, 24000, 0),
(5, 'SAL-311', 'tractor unit', 2, '2020-01-15', 398760, 24000, 0),
(6, 'SAL-415', 'refrigerated truck', 2, '2022-06-09', 176340, 9000, 0),
(7, 'BRA-050', 'van', 3, '2014-02-18', 301870, 1200, 1),
(8, 'BRA-051', 'van', 3, '2023-09-05', 58210, 1500, 0),
(9, 'THO-620', 'truck', 4, '2018-04-23', 345600, 10500, 0),
(10, 'THO-621', 'refrigerated truck', 4, '2023-02-11', 121080, 8500, 0),
(11, 'STO-007', 'tipper', 5, '2015-10-10', 268900, 18000, 0),
(12, 'STO-008', 'tipper', 5, '2024-03-19', 39770, 20000, 0),
(13, 'SAL-500', 'van', 6, '2022-01-31', 97640, 1400, 0),
(14, 'COB-111', 'truck', 7, '2013-07-07', 598430, 11000, 1),
(15, 'COB-112', 'truck', 7, '2024-10-28', 31250, 12500, 0),
(16, 'BRA-900', 'tractor unit', 8, '2023-05-16', 187900, 26000, 0),
(17, 'BRA-901', 'tractor unit', 8, '2025-02-03', 64380, 26000, 0),
(18, 'FEN-015', 'van', NULL, '2012-12-12', 276500, 1100, 1),
(19, 'SAL-522', 'electric van', 6, date('now', 'start of year', '-1 year', '+150 days'), 14820, 900, 0),
(20, 'BRA-910', 'electric van', 8, date('now', 'start of month', '-1 month', '+10 days'), 1260, 950, 0);

INSERT INTO drivers VALUES
(1, 'Arlo Finch', 'C', 1, '2010-02-15', '555-0101', NULL),
(2, 'Beatrix Moor', 'CE', 2, '2012-06-01', '555-0102', NULL),
(3, 'Cyrus Vale', 'C', 1, '2016-09-19', NULL, 1),
(4, 'Delphine Roux', 'B', 3, '2018-03-05', '555-0104', NULL),
(5, 'Emeka Nwosu', 'CE', 2, '2018-11-26', '555-0105', 2),
(6, 'Freya Stone', 'C', 4, '2019-04-08', '555-0106', 1),
(7, 'Gideon Marsh', 'C', 5, '2020-07-13', NULL, 6),
(8, 'Hedda Krog', 'CE', 8, '2022-11-10', '555-0108', 2),
(9, 'Isaac Palmer', 'B', 6, '2023-01-23', '555-0109', 4),
(10, 'Joanna Reyes', 'CE', 8, '2023-06-12', '555-0110', 8),
(11, 'Kamil Duda', 'C', 4, '2023-10-02', NULL, 6),
(12, 'Lotte Visser', 'B', 3, '2024-02-19', '555-0112', 4),
(13, 'Milo Grant', 'C', 7, '2024-08-05', '555-0113', 1),
(14, 'Noor Aziz', 'CE', 2, '2025-01-06', NULL, 5),
(15, 'Otis Blake', 'B', 6, date('now', 'start of year', '-1 year', '+200 days'), '555-0115', 9),
(16, 'Petra Lang', 'C', 5, date('now', '-100 days'), '555-0116', 7),
(17, 'Rafe Colby', 'B', 8, date('now', 'start of month', '-1 month', '+7 days'), NULL, 12),
(18, 'Sunniva Dale', 'CE', 4, date('now', '-10 days'), '555-0118', NULL),
(19, 'Thea Wulff', 'B', 7, date('now', '-2 days'), '555-0119', 13);

INSERT INTO trips VALUES
(1, 1, 1, '2023-01-18', 'Thornby', 184.5, 9800, 0),
(2, 4, 2, '2023-02-06', 'Marshgate', 312.0, 21500, 35),
(3, 7, 4, '2023-02-21', 'Aldermoor', 96.2, 640, 10),
(4, 2, 3, '2023-04-11', 'Saltmere', 228.7, 11200, 0),
(5, 5, 5, '2023-05-29', 'Stonehurst', 401.3, 22800, 90),
(6, 9, 6, '2023-07-03', 'Brackwell', 143.8, 7600, 15),
(7, 11, 7, '2023-08-14', 'Fennick', 75.4, 16400, 0),
(8, 4, 5, '2023-10-09', 'Cobham Vale', 367.9, 23100, 120),
(9, 6, 2, '2023-11-27', 'Brackwell', 255.1, 8100, 20),
(10, 13, 9, '2024-01-16', 'Marshgate', 118.6, 870, 0),
(11, 16, 8, '2024-02-08', 'Saltmere', 289.4, 24900, 45),
(12, 1, 3, '2024-03-25', 'Brackwell', 131.0, 10400, 5),
(13, 8, 12, '2024-05-06', 'Thornby', 88.3, NULL, 0),
(14, 10, 11, '2024-06-17', 'Saltmere', 241.9, 7900, 60),
(15, 12, 7, '2024-07-22', 'Aldermoor', 64.7, 18200, 0),
(16, 16, 10, '2024-09-30', 'Stonehurst', 334.6, 25300, 25),
(17, 5, 2, '2024-11-04', 'Thornby', 376.5, 19700, 0),
(18, 15, 13, '2024-12-09', 'Fennick', 52.9, 6100, 75),
(19, 9, 6, '2025-02-17', 'Marshgate', 109.2, 9900, 0),
(20, 17, 8, '2025-03-10', 'Cobham Vale', 298.8, 23700, 30),
(21, 2, 1, date('now', 'start of year', '-1 year', '+50 days'), 'Stonehurst', 159.0, 8800, 0),
(22, 6, 14, date('now', 'start of year', '-1 year', '+160 days'), 'Thornby', 322.4, 8600, 40),
(23, 3, 3, date('now', 'start of year', '-1 year', '+290 days'), 'Saltmere', 231.5, NULL, 15),
(24, 16, 10, date('now', '-66 days'), 'Marshgate', 276.3, 22100, 0),
(25, 19, 15, date('now', 'start of month', '-1 month'), 'Saltmere', 41.8, 420, 0),
(26, 17, 8, date('now', 'start of month', '-1 month', '+4 days'), 'Aldermoor', 310.7, 24400, 55),
(27, 4, 2, date('now', 'start of month', '-1 month', '+8 days'), 'Fennick', 352.2, 20900, 0),
(28, 1, 1, date('now', 'start of month', '-1 month', '+16 days'), 'Thornby', 186.1, 11700, 100),
(29, 8, 12, date('now', 'start of month', '-1 month', '+25 days'), 'Marshgate', 102.4, 1130, 0),
(30, 12, 16, date('now', '-18 days'), 'Brackwell', 138.9, 19100, 20),
(31, 10, 11, date('now', '-7 days'), 'Saltmere', 244.0, 8200, 0),
(32, 5, 14, date('now', '-5 days'), 'Cobham Vale', 381.6, 23500, 65),
(33, 20, 17, date('now', '-3 days'), 'Brackwell', 12.7, 310, 0),
(34, 15, 13, date('now', '-1 day'), 'Stonehurst', 207.3, NULL, 0),
(35, 16, 10, date('now', '-1 day'), 'Thornby', 264.5, 24800, 80),
(36, 9, 18, date('now'), 'Aldermoor', 166.8, 5400, 0);

INSERT INTO fuel_stops VALUES
(1, 1, 'Arrow Fuel', 62.0, 1.52),
(2, 2, 'Coastline', 128.5, 1.49),
(3, 4, 'Arrow Fuel', 81.4, 1.50),
(4, 5, 'Petrolux', 96.0, 1.61),
(5, 5, 'Coastline', 74.8, 1.55),
(6, 6, 'Greenpump', 47.3, 1.47),
(7, 8, 'Petrolux', 150.2, 1.66),
(8, 9, 'Coastline', 88.9, 1.58),
(9, 10, 'Greenpump', 14.6, 1.54),
(10, 11, 'Arrow Fuel', 117.7, 1.59),
(11, 14, 'Coastline', 90.1, 1.62),
(12, 16, 'Petrolux', 139.0, 1.70),
(13, 17, 'Arrow Fuel', 133.3, 1.57),
(14, 17, 'Greenpump', 30.5, 1.53),
(15, 20, 'Petrolux', 122.6, 1.72),
(16, 22, 'Coastline', 105.4, 1.60),
(17, 24, 'Arrow Fuel', 112.9, 1.63),
(18, 26, 'Petrolux', 126.1, 1.74),
(19, 27, 'Coastline', 144.7, 1.65),
(20, 28, 'Arrow Fuel', 65.8, 1.64),
(21, 31, 'Greenpump', 92.4, 1.56),
(22, 32, 'Petrolux', 151.9, 1.75),
(23, 32, 'Arrow Fuel', 20.0, 1.67),
(24, 35, 'Coastline', 108.2, 1.68),
(25, 36, 'Greenpump', 58.6, 1.51);

INSERT INTO repairs VALUES
(1, 1, '2023-03-02', 'Hobbs Garage', 'brake pads replaced', 640.00),
(2, 7, '2023-04-27', 'Hobbs Garage', 'clutch replaced', 1180.50),
(3, 4, '2023-06-15', 'TruckCare', 'gearbox overhaul', 4825.00),
(4, 14, '2023-09-20', 'TruckCare', 'engine failure', NULL),
(5, 9, '2023-12-05', 'Eastside Motors', 'tyres replaced', 1960.00),
(6, 11, '2024-01-30', 'Hobbs Garage', 'hydraulic leak', 875.25),
(7, 6, '2024-03-18', 'ColdChain Service', 'cooling unit repair', 2310.00),
(8, 2, '2024-05-21', 'Hobbs Garage', 'brake discs replaced', 990.00),
(9, 18, '2024-06-28', 'Eastside Motors', 'rust damage', NULL),
(10, 5, '2024-08-26', 'TruckCare', 'tyres replaced', 2240.00),
(11, 10, '2024-10-14', 'ColdChain Service', 'cooling unit repair', 1875.00),
(12, 13, '2025-01-09', 'Eastside Motors', 'battery replaced', 210.00),
(13, 4, date('now', 'start of year', '-1 year', '+30 days'), 'TruckCare', 'turbocharger replaced', 3150.75),
(14, 1, date('now', 'start of year', '-1 year', '+220 days'), 'Hobbs Garage', 'brake pads replaced', 655.00),
(15, 16, date('now', '-95 days'), 'TruckCare', 'tyres replaced', 2415.00),
(16, 9, date('now', 'start of month', '-1 month', '+12 days'), 'Eastside Motors', 'windscreen replaced', 480.00),
(17, 6, date('now', 'start of month', '-1 month', '+18 days'), 'ColdChain Service', 'compressor repair', 1520.40),
(18, 3, date('now', '-11 days'), 'Hobbs Garage', 'brake pads replaced', 395.00),
(19, 17, date('now', '-2 days'), 'TruckCare', 'gearbox inspection', NULL);

INSERT INTO driver_certificates VALUES
(1, 'first aid', '2021-04-12', '2024-04-12'),
(1, 'hazardous goods', '2022-09-01', '2027-09-01'),
(2, 'hazardous goods', '2023-02-20', '2028-02-20'),
(2, 'crane', '2019-05-16', NULL),
(3, 'first aid', '2024-03-11', '2027-03-11'),
(4, 'forklift', '2020-10-07', NULL),
(5, 'hazardous goods', '2019-06-24', '2024-06-24'),
(6, 'forklift', '2021-01-18', NULL),
(6, 'first aid', '2023-11-06', '2026-11-06'),
(7, 'crane', '2022-08-29', NULL),
(8, 'hazardous goods', '2023-04-03', '2028-04-03'),
(8, 'cold chain', '2024-01-22', '2029-01-22'),
(10, 'cold chain', '2023-09-18', '2028-09-18'),
(11, 'cold chain', '2024-02-05', '2029-02-05'),
(12, 'forklift', '2024-06-10', NULL),
(14, 'hazardous goods', date('now', '-120 days'), date('now', '-120 days', '+5 years')),
(15, 'first aid', date('now', '-3 years', '+20 days'), date('now', '+20 days')),
(16, 'crane', date('now', 'start of month', '-1 month', '+13 days'), NULL),
(18, 'first aid', date('now', '-8 days'), date('now', '-8 days', '+3 years'));
