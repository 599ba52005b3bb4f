-- A mixed vegetable farm: fields, crops, plantings, harvests, workers, shifts and sales.
CREATE TABLE fields (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    area_ha REAL NOT NULL,
    soil TEXT NOT NULL,
    is_irrigated BOOLEAN NOT NULL
);

CREATE TABLE crops (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    family TEXT,
    days_to_harvest INTEGER NOT NULL,
    seed_price_per_kg NUMERIC
);

CREATE TABLE plantings (
    id INTEGER PRIMARY KEY,
    field_id INTEGER NOT NULL,
    crop_id INTEGER NOT NULL,
    planted_on DATE NOT NULL,
    seed_kg REAL,
    FOREIGN KEY (field_id) REFERENCES fields(id),
    FOREIGN KEY (crop_id) REFERENCES crops(id)
);

CREATE TABLE harvests (
    id INTEGER PRIMARY KEY,
    planting_id INTEGER NOT NULL,
    harvested_on DATE NOT NULL,
    yield_kg REAL NOT NULL,
    grade TEXT,
    FOREIGN KEY (planting_id) REFERENCES plantings(id)
);

CREATE TABLE workers (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    hourly_wage NUMERIC NOT NULL,
    started_on DATE NOT NULL,
    supervisor_id INTEGER,
    FOREIGN KEY (supervisor_id) REFERENCES workers(id)
);

CREATE TABLE shifts (
    worker_id INTEGER NOT NULL,
    field_id INTEGER NOT NULL,
    worked_on DATE NOT NULL,
    hours REAL NOT NULL,
    task TEXT,
    PRIMARY KEY (worker_id, field_id, worked_on),
    FOREIGN KEY (worker_id) REFERENCES workers(id),
    FOREIGN KEY (field_id) REFERENCES fields(id)
);

CREATE TABLE sales (
    id INTEGER PRIMARY KEY,
    crop_id INTEGER NOT NULL,
    sold_on DATE NOT NULL,
    buyer TEXT NOT NULL,
    quantity_kg REAL NOT NULL,
    price_per_kg NUMERIC NOT NULL,
    is_paid BOOLEAN NOT NULL,
    FOREIGN KEY (crop_id) REFERENCES crops(id)
);

INSERT INTO fields VALUES
(1, 'Long Acre', 4.2, 'loam', 1),
(2, 'Creek Bottom', 2.8, 'clay', 1),
(3, 'Windmill', 6.5, 'sandy', 0),
(4, 'Old Orchard', 1.9, 'loam', 0),
(5, 'South Slope', 3.4, 'chalk', 0),
(6, 'Barn Patch', 0.6, 'loam', 1),
(7, 'Stone Wall', 5.1, 'clay', 0),
(8, 'Heron Meadow', 7.3, 'peat', 1),
(9, 'Railway Strip', 1.2, 'sandy', 1),
(10, 'Top Corner', 2.3, 'chalk', 0);

INSERT INTO crops VALUES
(1, 'potato', 'nightshade', 100, 1.20),
(2, 'tomato', 'nightshade', 80, 950.00),
(3, 'carrot', 'umbellifer', 75, 48.00),
(4, 'onion', 'allium', 110, 62.50),
(5, 'garlic', 'allium', 240, 9.80),
(6, 'kale', 'brassica', 60, 85.00),
(7, 'cabbage', 'brassica', 95, 140.00),
(8, 'pumpkin', 'cucurbit', 115, 72.00),
(9, 'zucchini', 'cucurbit', 50, 110.00),
(10, 'lettuce', 'daisy', 45, 210.00),
(11, 'beetroot', 'amaranth', 65, 38.00),
(12, 'rye', NULL, 300, 0.85),
(13, 'asparagus', NULL, 730, NULL);

INSERT INTO plantings VALUES
(1, 1, 1, '2023-04-03', 520.0),
(2, 2, 7, '2023-04-19', 0.9),
(3, 6, 2, '2023-05-08', 0.1),
(4, 3, 3, '2023-04-26', 7.5),
(5, 5, 8, '2023-05-22', 3.2),
(6, 4, 5, '2022-10-17', 310.0),
(7, 8, 4, '2023-03-29', 14.0),
(8, 9, 10, '2023-06-12', 0.4),
(9, 7, 12, '2023-09-25', 640.0),
(10, 1, 11, '2024-04-15', 8.8),
(11, 2, 6, '2024-05-06', 1.1),
(12, 3, 1, '2024-04-08', 760.0),
(13, 6, 2, '2024-05-13', 0.1),
(14, 8, 7, '2024-04-22', 2.1),
(15, 5, 9, '2024-06-03', 1.6),
(16, 9, 3, '2024-05-20', 1.9),
(17, 4, 5, '2023-10-20', 295.0),
(18, 10, 8, '2024-05-27', 2.4),
(19, 1, 4, '2025-03-24', 10.5),
(20, 8, 1, date('now', 'start of year', '-1 year', '+95 days'), 830.0),
(21, 6, 2, date('now', 'start of year', '-1 year', '+125 days'), 0.2),
(22, 2, 10, date('now', '-120 days'), 0.7),
(23, 9, 6, date('now', '-85 days'), 0.5),
(24, 1, 11, date('now', '-78 days'), 9.1),
(25, 3, 12, date('now', 'start of month', '-1 month', '+4 days'), 710.0),
(26, 4, 5, date('now', 'start of month', '-1 month', '+14 days'), 305.0),
(27, 6, 10, date('now', 'start of month', '-1 month', '+22 days'), 0.2),
(28, 10, 13, date('now', '-5 days'), NULL),
(29, 5, 6, date('now', '-1 day'), 0.8);

INSERT INTO harvests VALUES
(1, 1, '2023-07-18', 21400.0, 'A'),
(2, 1, '2023-08-02', 35250.0, 'B'),
(3, 2, '2023-08-01', 18300.0, 'A'),
(4, 3, '2023-08-05', 410.0, 'A'),
(5, 3, '2023-08-26', 655.0, 'B'),
(6, 4, '2023-07-20', 28800.0, 'B'),
(7, 5, '2023-09-29', 31900.0, 'A'),
(8, 6, '2023-07-11', 4150.0, 'A'),
(9, 7, '2023-08-14', 52600.0, 'C'),
(10, 8, '2023-08-03', 2900.0, NULL),
(11, 9, '2024-08-09', 22750.0, 'B'),
(12, 10, '2024-07-02', 30100.0, 'A'),
(13, 11, '2024-07-16', 8200.0, 'A'),
(14, 12, '2024-07-30', 60900.0, 'B'),
(15, 13, '2024-08-12', 720.0, 'A'),
(16, 14, '2024-08-20', 47500.0, 'C'),
(17, 15, '2024-08-04', 15600.0, 'A'),
(18, 15, '2024-08-19', 11900.0, 'B'),
(19, 16, '2024-08-15', 6050.0, NULL),
(20, 17, '2024-07-08', 3980.0, 'B'),
(21, 18, '2024-10-07', 19850.0, 'A'),
(22, 20, date('now', 'start of year', '-1 year', '+200 days'), 71200.0, 'A'),
(23, 21, date('now', 'start of year', '-1 year', '+215 days'), 980.0, 'A'),
(24, 22, date('now', '-70 days'), 5400.0, 'B'),
(25, 23, date('now', 'start of month', '-1 month', '+9 days'), 2650.0, 'A'),
(26, 24, date('now', 'start of month', '-1 month', '+20 days'), 17300.0, 'C'),
(27, 23, date('now', '-9 days'), 1875.0, 'B'),
(28, 24, date('now', '-4 days'), 12450.0, NULL),
(29, 24, date('now'), 8600.0, 'A');

INSERT INTO workers VALUES
(1, 'Harriet Moss', 'manager', 32.00, '2012-03-01', NULL),
(2, 'Tomas Vrba', 'foreman', 24.50, '2015-05-18', 1),
(3, 'Adaeze Obi', 'foreman', 25.25, '2017-02-06', 1),
(4, 'Glen Purvis', 'tractor driver', 21.00, '2018-09-10', 2),
(5, 'Lien Pham', 'picker', 15.50, '2020-06-15', 2),
(6, 'Marco Silva', 'picker', 15.80, '2021-05-03', 2),
(7, 'Ruth Ansell', 'packer', 16.40, '2022-07-25', 3),
(8, 'Dmitri Orlov', 'tractor driver', 22.75, '2023-03-13', 2),
(9, 'Sally Crane', 'picker', 14.90, '2023-06-19', 3),
(10, 'Idris Bello', 'picker', 15.10, '2024-05-27', 3),
(11, 'Nora Flint', 'packer', 16.00, '2024-08-12', 3),
(12, 'Jorge Medina', 'mechanic', 26.30, '2025-02-03', 1),
(13, 'Penny Lark', 'picker', 14.60, date('now', 'start of year', '-1 year', '+135 days'), 2),
(14, 'Arvid Nyman', 'beekeeper', 18.20, date('now', '-110 days'), 1),
(15, 'Chloe Banks', 'picker', 14.50, date('now', 'start of month', '-1 month', '+7 days'), 3),
(16, 'Viktor Sand', 'apprentice', 12.80, date('now', '-6 days'), 12);

INSERT INTO shifts VALUES
(4, 1, '2023-04-03', 8.0, 'planting'),
(5, 1, '2023-04-03', 7.5, 'planting'),
(4, 3, '2023-04-26', 9.0, 'planting'),
(5, 1, '2023-07-18', 8.5, 'harvesting'),
(6, 1, '2023-07-18', 8.0, 'harvesting'),
(9, 2, '2023-08-01', 6.0, 'harvesting'),
(6, 5, '2023-09-29', 10.0, 'harvesting'),
(8, 7, '2023-09-25', 9.5, 'planting'),
(5, 6, '2024-05-13', 4.0, 'planting'),
(8, 3, '2024-04-08', 10.5, 'planting'),
(10, 2, '2024-06-10', 5.5, 'weeding'),
(9, 2, '2024-06-10', 5.0, 'weeding'),
(6, 3, '2024-07-30', 9.0, 'harvesting'),
(10, 3, '2024-07-30', 8.75, 'harvesting'),
(11, 8, '2024-08-20', 6.5, NULL),
(2, 8, '2024-08-20', 3.0, 'inspection'),
(4, 8, date('now', 'start of year', '-1 year', '+95 days'), 9.0, 'planting'),
(13, 6, date('now', 'start of year', '-1 year', '+180 days'), 4.5, 'weeding'),
(5, 8, date('now', 'start of year', '-1 year', '+200 days'), 10.0, 'harvesting'),
(14, 4, date('now', '-75 days'), 3.5, NULL),
(8, 3, date('now', 'start of month', '-1 month', '+4 days'), 8.0, 'planting'),
(15, 9, date('now', 'start of month', '-1 month', '+9 days'), 7.0, 'harvesting'),
(5, 9, date('now', 'start of month', '-1 month', '+9 days'), 7.25, 'harvesting'),
(6, 1, date('now', 'start of month', '-1 month', '+20 days'), 8.5, 'harvesting'),
(10, 6, date('now', 'start of month', '-1 month', '+22 days'), 2.0, 'planting'),
(9, 9, date('now', '-9 days'), 6.0, 'harvesting'),
(6, 1, date('now', '-4 days'), 9.25, 'harvesting'),
(16, 10, date('now', '-5 days'), 5.0, 'planting'),
(2, 10, date('now', '-5 days'), 2.5, 'inspection'),
(15, 5, date('now', '-1 day'), 6.75, 'planting'),
(3, 5, date('now', '-1 day'), 1.5, NULL),
(6, 1, date('now'), 7.75, 'harvesting');

INSERT INTO sales VALUES
(1, 1, '2023-07-25', 'Greenway Markets', 15000.0, 0.42, 1),
(2, 1, '2023-08-10', 'Cornish Crisps', 28000.0, 0.31, 1),
(3, 7, '2023-08-12', 'Greenway Markets', 9000.0, 0.55, 1),
(4, 2, '2023-08-07', 'Bistro Fennel', 120.0, 3.90, 1),
(5, 3, '2023-08-01', 'Valley Co-op', 20000.0, 0.48, 1),
(6, 5, '2023-07-30', 'Bistro Fennel', 85.0, 7.20, 1),
(7, 8, '2023-10-16', 'Greenway Markets', 22000.0, 0.66, 1),
(8, 4, '2023-09-04', 'Valley Co-op', 41000.0, 0.38, 1),
(9, 10, '2023-08-04', 'Farm Gate', 310.0, 2.10, 1),
(10, 12, '2024-08-21', 'Hearth Bakery', 12500.0, 0.29, 1),
(11, 11, '2024-07-09', 'Valley Co-op', 18000.0, 0.60, 1),
(12, 6, '2024-07-19', 'Farm Gate', 450.0, 2.80, 1),
(13, 1, '2024-08-06', 'Cornish Crisps', 52000.0, 0.33, 1),
(14, 2, '2024-08-15', 'Bistro Fennel', 140.0, 4.10, 0),
(15, 9, '2024-08-08', 'Greenway Markets', 9800.0, 1.05, 1),
(16, 7, '2024-09-02', 'Sauer Foods', 39000.0, 0.41, 1),
(17, 8, '2024-10-21', 'Farm Gate', 1600.0, 1.20, 1),
(18, 5, '2025-01-13', 'Bistro Fennel', 62.0, 7.80, 0),
(19, 1, date('now', 'start of year', '-1 year', '+210 days'), 'Greenway Markets', 33000.0, 0.45, 1),
(20, 2, date('now', 'start of year', '-1 year', '+216 days'), 'Farm Gate', 260.0, 4.30, 1),
(21, 1, date('now', 'start of year', '-1 year', '+280 days'), 'Cornish Crisps', 21000.0, 0.34, 1),
(22, 10, date('now', '-68 days'), 'Valley Co-op', 2400.0, 1.75, 1),
(23, 6, date('now', 'start of month', '-1 month', '+10 days'), 'Greenway Markets', 1100.0, 2.60, 1),
(24, 6, date('now', 'start of month', '-1 month', '+16 days'), 'Farm Gate', 190.0, 3.00, 1),
(25, 11, date('now', 'start of month', '-1 month', '+23 days'), 'Valley Co-op', 10500.0, 0.58, 0),
(26, 11, date('now', '-17 days'), 'Sauer Foods', 4200.0, 0.63, 0),
(27, 6, date('now', '-7 days'), 'Bistro Fennel', 75.0, 3.40, 0),
(28, 11, date('now', '-3 days'), 'Greenway Markets', 6900.0, 0.62, 0),
(29, 5, date('now', '-1 day'), 'Farm Gate', 22.0, 8.50, 1),
(30, 10, date('now'), 'Farm Gate', 65.0, 2.40, 1);
