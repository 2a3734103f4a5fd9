-- The existing shop database, empty, in the shape its ORM (Prisma) gives it. Facts only: types, names, nullability, keys.
CREATE TYPE public."UserRole" AS ENUM ('ADMIN', 'MANAGER', 'STAFF');
CREATE TYPE public."Status" AS ENUM ('ToOrder', 'Ordered', 'Arrived', 'Sold');
CREATE TYPE public."ExpenseCategory" AS ENUM ('OFFICE_SUPPLIES', 'TRANSPORTATION', 'MISCELLANEOUS');
CREATE TYPE public."Currency" AS ENUM ('SRD', 'USD');

CREATE TABLE public."companies" (
    "id" TEXT NOT NULL,
    "name" TEXT NOT NULL,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMP(3) NOT NULL,
    "cashBalanceSRD" DOUBLE PRECISION NOT NULL DEFAULT 0,
    "cashBalanceUSD" DOUBLE PRECISION NOT NULL DEFAULT 0,
    "stockValueSRD" DOUBLE PRECISION NOT NULL DEFAULT 0,
    "stockValueUSD" DOUBLE PRECISION NOT NULL DEFAULT 0,
    CONSTRAINT "companies_pkey" PRIMARY KEY ("id")
);
CREATE UNIQUE INDEX "companies_name_key" ON public."companies" ("name");

CREATE TABLE public."users" (
    "id" TEXT NOT NULL,
    "name" TEXT NOT NULL,
    "email" TEXT NOT NULL,
    "password" TEXT NOT NULL,
    "role" public."UserRole" NOT NULL DEFAULT 'STAFF',
    "isActive" BOOLEAN NOT NULL DEFAULT true,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMP(3) NOT NULL,
    "companyId" TEXT,
    CONSTRAINT "users_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "users_companyId_fkey" FOREIGN KEY ("companyId") REFERENCES public."companies" ("id") ON DELETE CASCADE ON UPDATE CASCADE
);
CREATE UNIQUE INDEX "users_email_key" ON public."users" ("email");

CREATE TABLE public."locations" (
    "id" TEXT NOT NULL,
    "name" TEXT NOT NULL,
    "address" TEXT,
    "description" TEXT,
    "isActive" BOOLEAN NOT NULL DEFAULT true,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMP(3) NOT NULL,
    "companyId" TEXT NOT NULL,
    "managerId" TEXT,
    CONSTRAINT "locations_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "locations_companyId_fkey" FOREIGN KEY ("companyId") REFERENCES public."companies" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    CONSTRAINT "locations_managerId_fkey" FOREIGN KEY ("managerId") REFERENCES public."users" ("id") ON DELETE SET NULL ON UPDATE CASCADE
);

CREATE TABLE public."items" (
    "id" TEXT NOT NULL,
    "name" TEXT NOT NULL,
    "status" public."Status" NOT NULL DEFAULT 'ToOrder',
    "quantityInStock" INTEGER NOT NULL DEFAULT 0,
    "costPerUnitUSD" DOUBLE PRECISION NOT NULL,
    "freightCostUSD" DOUBLE PRECISION NOT NULL DEFAULT 0, -- for the whole order, not per unit
    "sellingPriceSRD" DOUBLE PRECISION NOT NULL,
    "supplier" TEXT,
    "supplierSku" TEXT,
    "orderDate" TIMESTAMP(3),
    "expectedArrival" TIMESTAMP(3),
    "orderNumber" TEXT,
    "profitMarginPercent" DOUBLE PRECISION,
    "minStockLevel" INTEGER,
    "notes" TEXT,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMP(3) NOT NULL,
    "companyId" TEXT NOT NULL,
    "assignedUserId" TEXT,
    "locationId" TEXT,
    CONSTRAINT "items_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "items_companyId_fkey" FOREIGN KEY ("companyId") REFERENCES public."companies" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    CONSTRAINT "items_assignedUserId_fkey" FOREIGN KEY ("assignedUserId") REFERENCES public."users" ("id") ON DELETE SET NULL ON UPDATE CASCADE,
    CONSTRAINT "items_locationId_fkey" FOREIGN KEY ("locationId") REFERENCES public."locations" ("id") ON DELETE SET NULL ON UPDATE CASCADE
);

CREATE TABLE public."expenses" (
    "id" TEXT NOT NULL,
    "description" TEXT NOT NULL,
    "amount" DOUBLE PRECISION NOT NULL,
    "currency" public."Currency" NOT NULL DEFAULT 'SRD',
    "category" public."ExpenseCategory" NOT NULL DEFAULT 'MISCELLANEOUS',
    "date" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "notes" TEXT,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMP(3) NOT NULL,
    "companyId" TEXT NOT NULL,
    "createdById" TEXT,
    CONSTRAINT "expenses_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "expenses_companyId_fkey" FOREIGN KEY ("companyId") REFERENCES public."companies" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    CONSTRAINT "expenses_createdById_fkey" FOREIGN KEY ("createdById") REFERENCES public."users" ("id") ON DELETE SET NULL ON UPDATE CASCADE
);
